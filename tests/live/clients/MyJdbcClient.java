import java.sql.*;
import java.util.Arrays;

/** What MariaDB's JDBC driver does over the wire, printed: run direct and through, the output must be the same. Arguments: port, database,
 *  user, password, and what to do: "same" or "gate". */
class MyJdbcClient {
    static String port, database, user, password;

    public static void main(String[] arguments) throws Exception {
        port = arguments[0];
        database = arguments[1];
        user = arguments[2];
        password = arguments[3];
        if (arguments[4].equals("gate")) {
            gate();
        } else {
            for (String options : new String[] {"", "&useServerPrepStmts=true", "&useCursorFetch=true&defaultFetchSize=70",
                    "&rewriteBatchedStatements=true", "&useBulkStmts=false&useServerPrepStmts=true"}) {
                System.out.println(options);
                try (Connection connection = connect(options)) {
                    work(connection);
                }
            }
        }
        System.out.println("finished");
    }

    static Connection connect(String options) throws SQLException {
        return DriverManager.getConnection("jdbc:mariadb://127.0.0.1:" + port + "/" + database
            + "?allowMultiQueries=true&allowPublicKeyRetrieval=true" + options, user, password);
    }

    interface Tried { void run() throws SQLException; }

    static void attempt(Tried what) {
        try {
            what.run();
        } catch (SQLException error) {
            // The driver adds its own connection's number.
            System.out.println(error.getSQLState() + " " + error.getErrorCode() + " " + error.getMessage().replaceAll("conn=\\d+", "conn"));
        }
    }

    static void work(Connection connection) throws SQLException {
        try (PreparedStatement statement = connection.prepareStatement("SELECT id, status FROM carts WHERE id = ?")) {
            for (int id = 1; id <= 8; id++) {
                statement.setInt(1, id);
                try (ResultSet rows = statement.executeQuery()) {
                    while (rows.next()) System.out.print(rows.getInt(1) + rows.getString(2) + " ");
                }
            }
            System.out.println();
        }
        try (Statement statement = connection.createStatement()) {
            boolean result = statement.execute("SELECT 1; UPDATE carts SET note = 'j' WHERE id = 3; SELECT 2");
            while (result || statement.getUpdateCount() != -1) {
                System.out.print(result ? "rows " : "count " + statement.getUpdateCount() + " ");
                result = statement.getMoreResults();
            }
            System.out.println();
            statement.execute("DROP TABLE IF EXISTS never_there");
            System.out.println(statement.getWarnings());
            statement.executeUpdate("INSERT INTO counted (v) VALUES ('k'), ('l')", Statement.RETURN_GENERATED_KEYS);
            try (ResultSet keys = statement.getGeneratedKeys()) {
                System.out.println(keys.next());
            }
        }
        attempt(() -> connection.createStatement().execute("INSERT INTO logs VALUES (1, 'twice', NULL)"));
        attempt(() -> connection.createStatement().execute("SELECT * FROM nowhere"));
        attempt(() -> connection.createStatement().execute("SELEC 1"));
        try (CallableStatement call = connection.prepareCall("{call several()}")) {
            boolean result = call.execute();
            int results = 0;
            while (result) {
                results += 1;
                result = call.getMoreResults();
            }
            System.out.println(results);
        }
        connection.setAutoCommit(false);
        try (PreparedStatement statement = connection.prepareStatement("INSERT INTO logs (id, kind) VALUES (?, ?)")) {
            for (int id = 3000; id < 3300; id++) {
                statement.setInt(1, id);
                statement.setString(2, "batch");
                statement.addBatch();
            }
            System.out.println(Arrays.stream(statement.executeBatch()).filter(count -> count == 1 || count == -2).count());
            statement.setInt(1, 3999);
            statement.setString(2, "fine");
            statement.addBatch();
            statement.setInt(1, 3000);
            statement.addBatch();
            try {
                statement.executeBatch();
            } catch (BatchUpdateException error) {
                System.out.println(error.getSQLState() + " " + error.getUpdateCounts().length);
            }
        }
        connection.rollback();
        Savepoint savepoint = connection.setSavepoint("here");
        try (PreparedStatement statement = connection.prepareStatement("DELETE FROM logs WHERE id = ?")) {
            statement.setInt(1, 8);
            System.out.println(statement.executeUpdate());
        }
        connection.rollback(savepoint);
        try (ResultSet rows = connection.createStatement().executeQuery("SELECT count(*) FROM logs")) {
            rows.next();
            System.out.println(rows.getLong(1));
        }
        connection.commit();
        connection.setAutoCommit(true);
        System.out.println(connection.isValid(30) + " " + connection.getCatalog().equals(database));
        try (ResultSet columns = connection.getMetaData().getColumns(database, null, "carts", null)) {
            while (columns.next()) System.out.print(columns.getString("COLUMN_NAME") + " " + columns.getString("TYPE_NAME") + " ");
            System.out.println();
        }
        try (PreparedStatement statement = connection.prepareStatement("SELECT id FROM carts ORDER BY id")) {
            statement.setFetchSize(70);
            long sum = 0;
            try (ResultSet rows = statement.executeQuery()) {
                while (rows.next()) sum += rows.getInt(1);
            }
            System.out.println(sum);
        }
    }

    static String all(ResultSet rows) throws SQLException {
        StringBuilder all = new StringBuilder();
        while (rows.next()) {
            for (int column = 1; column <= rows.getMetaData().getColumnCount(); column++) {
                all.append(rows.getMetaData().getColumnLabel(column)).append('=').append(rows.getString(column)).append('\n');
            }
        }
        return all.toString();
    }

    static String refused(String note, Tried what) {
        try {
            what.run();
            System.out.println("not refused");
            return "";
        } catch (SQLException error) {
            // Version 2 of the driver takes the number for a signed one.
            System.out.println("refused " + (error.getErrorCode() & 0xffff) + " " + note);
            return error.getMessage().split("SLUICE CONFIRM '")[1].split("'")[0];
        }
    }

    static void gate() throws SQLException {
        try (Connection connection = connect("")) {
            String token = refused("", () -> connection.createStatement().executeUpdate("DELETE FROM logs"));
            System.out.println("confirmed " + connection.createStatement().executeUpdate("SLUICE CONFIRM '" + token + "'"));
        }
        try (Connection connection = connect("&useServerPrepStmts=true")) {
            String second = refused("with parameters", () -> {
                try (PreparedStatement statement = connection.prepareStatement("UPDATE carts SET note = ? WHERE id <= ?")) {
                    statement.setString(1, "x");
                    statement.setInt(2, 3000);
                    statement.executeUpdate();
                }
            });
            System.out.println("confirmed " + connection.createStatement().executeUpdate("SLUICE CONFIRM '" + second + "'"));
            try (PreparedStatement statement = connection.prepareStatement("SLUICE POLICY")) {
                String text = all(connection.createStatement().executeQuery("SLUICE POLICY"));
                String binary = all(statement.executeQuery());
                boolean same = text.equals(binary) && text.contains("missing-where");
                System.out.println(same ? "rows of ours" : text + " is not " + binary);
            }
        }
    }
}
