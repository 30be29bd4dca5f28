// What pgjdbc does over the wire, printed; with "gate" as its third argument it meets the gate instead.

import java.io.ByteArrayOutputStream;
import java.io.StringReader;
import java.sql.BatchUpdateException;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Savepoint;
import java.sql.Statement;
import java.util.Arrays;
import org.postgresql.PGConnection;
import org.postgresql.util.PSQLException;
import org.postgresql.util.ServerErrorMessage;

public class JdbcClient {
    static String url;

    public static void main(String[] arguments) throws Exception {
        url = "jdbc:postgresql://127.0.0.1:" + arguments[0] + "/" + arguments[1] + "?user=trusty&sslmode=disable";
        if (arguments[2].equals("gate")) gate(); else same();
        System.out.println("finished");
    }

    static Connection connect(String more) throws SQLException {
        return DriverManager.getConnection(url + more);
    }

    interface Attempt { void run() throws SQLException; }

    static void attempt(Attempt attempt) {
        try {
            attempt.run();
        } catch (SQLException error) {
            System.out.println(error.getClass().getSimpleName() + " " + error.getSQLState() + " " + error.getMessage());
            if (error instanceof PSQLException && ((PSQLException) error).getServerErrorMessage() != null) {
                ServerErrorMessage told = ((PSQLException) error).getServerErrorMessage();
                System.out.println(told.getDetail() + " " + told.getHint() + " " + told.getConstraint() + " " + told.getPosition()
                    + " " + told.getFile() + " " + told.getLine() + " " + told.getRoutine());
            }
        }
    }

    static void same() throws Exception {
        for (String mode : new String[] {"", "&prepareThreshold=1", "&prepareThreshold=0", "&preferQueryMode=simple",
                                         "&preferQueryMode=extendedForPrepared", "&preferQueryMode=extendedCacheEverything",
                                         "&binaryTransfer=false", "&reWriteBatchedInserts=true"}) {
            System.out.println("mode " + mode);
            try (Connection connection = connect(mode)) {
                work(connection);
            }
        }
        try (Connection connection = connect("")) {
            fetchInPieces(connection);
            copy(connection);
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
        }
        attempt(() -> connection.createStatement().execute("INSERT INTO logs VALUES (1, 'twice')"));
        attempt(() -> connection.createStatement().execute("SELECT 1/0"));
        attempt(() -> connection.createStatement().execute("SELEC 1"));
        connection.setAutoCommit(false);
        try (PreparedStatement statement = connection.prepareStatement("INSERT INTO logs (id, kind) VALUES (?, ?)")) {
            for (int id = 3000; id < 3600; id++) {
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
        Savepoint savepoint = connection.setSavepoint();
        attempt(() -> connection.createStatement().execute("SELECT 1/0"));
        connection.rollback(savepoint);
        try (ResultSet rows = connection.createStatement().executeQuery("SELECT count(*) FROM logs")) {
            rows.next();
            System.out.println(rows.getLong(1));
        }
        connection.commit();
        connection.setAutoCommit(true);
        System.out.println(connection.isValid(30));
        try (ResultSet columns = connection.getMetaData().getColumns(null, "public", "carts", null)) {
            while (columns.next()) System.out.print(columns.getString("COLUMN_NAME") + " ");
            System.out.println();
        }
    }

    static void fetchInPieces(Connection connection) throws SQLException {
        connection.setAutoCommit(false);
        try (PreparedStatement statement = connection.prepareStatement("SELECT id FROM carts ORDER BY id")) {
            statement.setFetchSize(70);
            long sum = 0;
            try (ResultSet rows = statement.executeQuery()) {
                while (rows.next()) sum += rows.getInt(1);
            }
            System.out.println(sum);
        }
        connection.commit();
        connection.setAutoCommit(true);
    }

    static void copy(Connection connection) throws Exception {
        var copies = connection.unwrap(PGConnection.class).getCopyAPI();
        System.out.println(copies.copyIn("COPY logs (id, kind) FROM STDIN", new StringReader("9001\ta\n9002\tb\n")));
        var out = new ByteArrayOutputStream();
        System.out.println(copies.copyOut("COPY (SELECT id FROM logs ORDER BY id) TO STDOUT", out) + " " + out.size());
        attempt(() -> {
            try {
                copies.copyIn("COPY logs (id, kind) FROM STDIN", new StringReader("wrong\n"));
            } catch (java.io.IOException error) {
                System.out.println(error);
            }
        });
    }

    interface Refusable { void run() throws SQLException; }

    static String refused(String note, Refusable what) {
        try {
            what.run();
            System.out.println("not refused");
            return "";
        } catch (SQLException error) {
            System.out.println("refused " + error.getSQLState() + note);
            String hint = ((PSQLException) error).getServerErrorMessage().getHint();
            return hint.split("SLUICE CONFIRM '")[1].split("'")[0];
        }
    }

    static void gate() throws SQLException {
        try (Connection connection = connect("")) {
            String token = refused("", () -> connection.createStatement().executeUpdate("DELETE FROM logs"));
            System.out.println("confirmed " + connection.createStatement().executeUpdate("SLUICE CONFIRM '" + token + "'"));
            String second = refused(" with parameters", () -> {
                try (PreparedStatement statement = connection.prepareStatement("UPDATE carts SET note = ? WHERE id <= ?")) {
                    statement.setString(1, "x");
                    statement.setInt(2, 3000);
                    statement.executeUpdate();
                }
            });
            System.out.println("confirmed " + connection.createStatement().executeUpdate("SLUICE CONFIRM '" + second + "'"));
        }
    }
}
