CREATE TABLE ten (d int); INSERT INTO ten VALUES (0), (1), (2), (3), (4), (5), (6), (7), (8), (9);
CREATE TABLE logs (id int PRIMARY KEY, kind varchar(20) NOT NULL, line varchar(100), made datetime);
INSERT INTO logs SELECT 1 + a.d + 10 * b.d + 100 * c.d, IF(a.d % 2 = 0, 'odd', 'even'), concat('line ', 1 + a.d + 10 * b.d + 100 * c.d),
  '2026-01-01' + INTERVAL b.d DAY FROM ten a, ten b, ten c WHERE c.d < 3;
CREATE TABLE carts (id int AUTO_INCREMENT PRIMARY KEY, status varchar(20) NOT NULL DEFAULT 'new', owner int, UNIQUE KEY one_owner (owner));
INSERT INTO carts SELECT id, IF(id <= 150, 'old', 'new'), id + 1000 FROM logs;
CREATE TABLE items (id int PRIMARY KEY, cart int NOT NULL, CONSTRAINT of_cart FOREIGN KEY (cart) REFERENCES carts (id) ON DELETE CASCADE ON UPDATE CASCADE);
INSERT INTO items SELECT id, id FROM logs;
CREATE TABLE hub (id int PRIMARY KEY, name varchar(20)); INSERT INTO hub VALUES (1, 'one'), (2, 'two'), (3, 'three');
CREATE TABLE spokes (id int PRIMARY KEY, hub int, CONSTRAINT of_hub FOREIGN KEY (hub) REFERENCES hub (id) ON DELETE CASCADE ON UPDATE CASCADE);
INSERT INTO spokes SELECT id, 1 FROM logs;
CREATE TABLE loose (id int PRIMARY KEY, hub int, CONSTRAINT loosely FOREIGN KEY (hub) REFERENCES hub (id) ON DELETE SET NULL);
INSERT INTO loose SELECT id, 2 FROM logs;
CREATE TABLE old_logs (id int PRIMARY KEY, kind varchar(20), line varchar(100)) ENGINE = MyISAM;
INSERT INTO old_logs SELECT id, kind, line FROM logs;
CREATE TABLE parts (id int NOT NULL, year int NOT NULL, PRIMARY KEY (id, year)) PARTITION BY RANGE (year)
  (PARTITION p25 VALUES LESS THAN (2026), PARTITION p26 VALUES LESS THAN (2027), PARTITION p27 VALUES LESS THAN MAXVALUE);
INSERT INTO parts SELECT id, 2025 FROM logs; INSERT INTO parts SELECT id, 2026 FROM logs;
CREATE TABLE spare (id int NOT NULL, year int NOT NULL, PRIMARY KEY (id, year));
CREATE TABLE settings (name varchar(20) PRIMARY KEY, value varchar(200), CONSTRAINT not_empty CHECK (value <> ''));
INSERT INTO settings VALUES ('a', '1'), ('b', '2');
CREATE TABLE inbox (id int);
CREATE TABLE audit (what varchar(100));
CREATE VIEW odd_logs AS SELECT * FROM logs WHERE kind = 'odd';
CREATE VIEW all_logs AS SELECT * FROM logs;
CREATE TRIGGER wipes AFTER INSERT ON inbox FOR EACH ROW DELETE FROM logs;
CREATE FUNCTION purges() RETURNS int MODIFIES SQL DATA BEGIN DELETE FROM logs; RETURN 1; END;
CREATE FUNCTION calm(n int) RETURNS int DETERMINISTIC NO SQL RETURN n + 1;
CREATE PROCEDURE purging() DELETE FROM logs;
CREATE PROCEDURE by_text(t varchar(200)) BEGIN SET @by_text = t; PREPARE by_text FROM @by_text; EXECUTE by_text; DEALLOCATE PREPARE by_text; END;
CREATE PROCEDURE several() BEGIN SELECT 1; SELECT id, kind FROM logs WHERE id < 3; END;
CREATE EVENT nightly ON SCHEDULE EVERY 1 YEAR STARTS '2036-01-01' DO SET @x = 1;
DROP TABLE ten;
ANALYZE TABLE logs, carts, items, spokes, parts
