//! What the stories stand on: the two servers let in whom they should, by the plugins they should, and the client hears it all.

use crate::harness::mysql::login::{Encryption, Login};
use crate::harness::mysql::my_stories;
use crate::harness::mysql::server::{BLIND, BY_OTHER_PLUGIN, BY_PASSWORD, MyServer, ONLY_TLS, TRUSTED};
use crate::harness::mysql::wire::MyWire;
use crate::harness::server::PASSWORD;

my_stories! { accounts_log_in }

fn accounts_log_in(server: &'static MyServer) {
    let database = server.database("CREATE TABLE t (id int); INSERT INTO t VALUES (1), (2)");
    assert_eq!(database.count("t"), 2);
    let log_in = |user, password, encryption, address| {
        let login = Login::of(user).with_password(password).on(&database.name).over(encryption);
        let mut wire = MyWire::try_login(&address, &login).map_err(|failure| failure.code)?;
        Ok::<_, u16>(wire.query("SELECT substring_index(user(), '@', 1)").value())
    };
    for (user, password) in [(TRUSTED, ""), (BLIND, ""), (BY_PASSWORD, PASSWORD)] {
        for encryption in [Encryption::Plain, Encryption::Tls] {
            assert_eq!(log_in(user, password, encryption, server.tcp()), Ok(user.to_owned()));
        }
        assert_eq!(log_in(user, password, Encryption::Plain, server.unix()), Ok(user.to_owned()));
    }
    assert_eq!(log_in(BY_PASSWORD, "wrong", Encryption::Plain, server.tcp()), Err(1045));
    assert_eq!(log_in(ONLY_TLS, PASSWORD, Encryption::Plain, server.tcp()), Err(1045));
    assert_eq!(log_in(ONLY_TLS, PASSWORD, Encryption::Tls, server.tcp()), Ok(ONLY_TLS.to_owned()));
    if !server.is_mariadb() {
        for encryption in [Encryption::Plain, Encryption::Tls] {
            assert_eq!(log_in(BY_OTHER_PLUGIN, PASSWORD, encryption, server.tcp()), Ok(BY_OTHER_PLUGIN.to_owned()));
        }
    }
    let sees_processes = |user| {
        let rows = database.connect_as(user).query("SELECT count(*) FROM information_schema.innodb_trx");
        rows.error().is_none()
    };
    assert_eq!((sees_processes(TRUSTED), sees_processes(BLIND)), (true, false));
}
