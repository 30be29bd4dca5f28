// What go-sql-driver does over the wire, printed: run direct and through, the output must be the same. Arguments: a data source's name, and what
// to do: "same", "gate" or "who".
package main

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"strings"
	"sync"

	"github.com/go-sql-driver/mysql"
)

func main() {
	source, part := os.Args[1], os.Args[2]
	db, err := sql.Open("mysql", source)
	check(err)
	switch part {
	case "same":
		same(db, source)
	case "gate":
		gate(db)
	case "who":
		var who string
		check(db.QueryRow("SELECT substring_index(user(), '@', 1)").Scan(&who))
		fmt.Println(who)
		return
	}
	check(db.Close())
	fmt.Println("finished")
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// With values it prepares, executes and closes; without, it is a text.
func show(db interface {
	Query(string, ...interface{}) (*sql.Rows, error)
}, query string, values ...interface{}) {
	rows, err := db.Query(query, values...)
	if err != nil {
		fmt.Println(query, "fails:", err)
		return
	}
	defer rows.Close()
	for {
		columns, err := rows.Columns()
		check(err)
		fmt.Println(columns)
		for rows.Next() {
			cells := make([]sql.NullString, len(columns))
			places := make([]interface{}, len(columns))
			for at := range cells {
				places[at] = &cells[at]
			}
			check(rows.Scan(places...))
			fmt.Println(cells)
		}
		if !rows.NextResultSet() {
			break
		}
	}
	if rows.Err() != nil {
		fmt.Println(query, "ends:", rows.Err())
	}
}

func run(db interface {
	Exec(string, ...interface{}) (sql.Result, error)
}, query string, values ...interface{}) {
	result, err := db.Exec(query, values...)
	if err != nil {
		fmt.Println(query, "fails:", err)
		return
	}
	changed, _ := result.RowsAffected()
	id, _ := result.LastInsertId()
	fmt.Println(changed, id)
}

func same(db *sql.DB, source string) {
	check(db.Ping())
	show(db, "SELECT 1 AS one, 'zwei' AS two, NULL AS three")
	show(db, "SELECT ? AS one, ? AS two, ? AS three", 1, "it's ä \\ \" %", nil)
	show(db, "SELECT * FROM carts WHERE id = ?", 3)
	show(db, "SELECT * FROM carts WHERE id = 4")
	show(db, "SELEC 1")
	show(db, "SELECT * FROM nowhere WHERE id = ?", 1)
	show(db, "CALL several()")
	run(db, "INSERT INTO logs VALUES (1, 'twice', NULL)")
	run(db, "INSERT INTO counted (v) VALUES (?), (?)", "a", "b")
	run(db, "UPDATE carts SET note = ? WHERE id = ?", strings.Repeat("n", 20), 3)

	statement, err := db.Prepare("SELECT status FROM carts WHERE id = ?")
	check(err)
	for n := 0; n < 4; n++ {
		rows, err := statement.Query(n)
		check(err)
		for rows.Next() {
			var status string
			check(rows.Scan(&status))
			fmt.Println(n, status)
		}
		check(rows.Close())
	}
	check(statement.Close())

	transaction, err := db.BeginTx(context.Background(), &sql.TxOptions{Isolation: sql.LevelReadCommitted})
	check(err)
	run(transaction, "DELETE FROM logs WHERE id < ?", 20)
	show(transaction, "SELECT count(*) FROM logs")
	check(transaction.Rollback())
	show(db, "SELECT count(*) FROM logs")

	// Values put into the text by the driver, several statements in one, and times.
	other, err := sql.Open("mysql", source+"?interpolateParams=true&multiStatements=true&parseTime=true&clientFoundRows=true")
	check(err)
	show(other, "SELECT ? AS n; SELECT 2 AS m", 1)
	run(other, "UPDATE carts SET note = ? WHERE id = ?", "same", 5)
	run(other, "UPDATE carts SET note = ? WHERE id = ?", "same", 5)
	check(other.Close())

	// A pool, whose connections are used side by side.
	db.SetMaxOpenConns(4)
	var group sync.WaitGroup
	sums := make([]int, 20)
	for n := range sums {
		group.Add(1)
		go func(n int) {
			defer group.Done()
			check(db.QueryRow("SELECT ? + 1", n).Scan(&sums[n]))
		}(n)
	}
	group.Wait()
	fmt.Println(sums)
}

func gate(db *sql.DB) {
	ctx := context.Background()
	connection, err := db.Conn(ctx)
	check(err)
	defer connection.Close()
	token := func(note, query string, values ...interface{}) string {
		_, err := connection.ExecContext(ctx, query, values...)
		refusal, ok := err.(*mysql.MySQLError)
		if !ok {
			fmt.Println("not refused", err)
			os.Exit(1)
		}
		fmt.Println("refused", refusal.Number, note)
		return strings.Split(strings.Split(refusal.Message, "SLUICE CONFIRM '")[1], "'")[0]
	}
	confirm := func(token string) {
		result, err := connection.ExecContext(ctx, "SLUICE CONFIRM '"+token+"'")
		check(err)
		changed, _ := result.RowsAffected()
		fmt.Println("confirmed", changed)
	}
	confirm(token("", "DELETE FROM logs"))
	confirm(token("with parameters", "UPDATE carts SET note = ? WHERE id <= ?", "x", 3000))
	// A result of ours, in text and in binary.
	text, err := connection.QueryContext(ctx, "SLUICE POLICY")
	check(err)
	one := cells(text)
	statement, err := connection.PrepareContext(ctx, "SLUICE POLICY")
	check(err)
	binary, err := statement.QueryContext(ctx)
	check(err)
	other := cells(binary)
	if one == other && strings.Contains(one, "missing-where") {
		fmt.Println("rows of ours")
	} else {
		fmt.Println(one, "is not", other)
	}
}

func cells(rows *sql.Rows) string {
	columns, err := rows.Columns()
	check(err)
	all := strings.Join(columns, ",")
	for rows.Next() {
		row := make([]sql.NullString, len(columns))
		places := make([]interface{}, len(columns))
		for at := range row {
			places[at] = &row[at]
		}
		check(rows.Scan(places...))
		for _, cell := range row {
			all += "|" + cell.String
		}
	}
	check(rows.Err())
	check(rows.Close())
	return all
}
