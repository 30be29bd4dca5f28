"""SQLAlchemy's day at the database: reflection of everything, a unit of work, small changes by key. Prints what it saw."""

import sys

from sqlalchemy import MetaData, String, create_engine, func, inspect, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

port, database = sys.argv[1], sys.argv[2]
engine = create_engine(f"postgresql+psycopg://trusty@127.0.0.1:{port}/{database}")

inspector = inspect(engine)
print(sorted(inspector.get_schema_names()))
for schema in ["public", "archive"]:
    for table in sorted(inspector.get_table_names(schema=schema)):
        columns = [(one["name"], str(one["type"]), one["nullable"], one["default"]) for one in inspector.get_columns(table, schema=schema)]
        print(schema, table, columns)
        print("  key", inspector.get_pk_constraint(table, schema=schema))
        print("  foreign", inspector.get_foreign_keys(table, schema=schema))
        print("  indexes", inspector.get_indexes(table, schema=schema))
        print("  unique", inspector.get_unique_constraints(table, schema=schema))
        print("  checks", inspector.get_check_constraints(table, schema=schema))
        print("  comment", inspector.get_table_comment(table, schema=schema))
print(sorted(inspector.get_view_names()), sorted(inspector.get_materialized_view_names()))
print(inspector.get_view_definition("odd_logs"))
print(inspector.get_enums(), sorted(inspector.get_sequence_names()))

metadata = MetaData()
metadata.reflect(engine)
print(sorted(metadata.tables))


class Base(DeclarativeBase):
    pass


class Note(Base):
    __tablename__ = "orm_notes"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(String(100))


Base.metadata.create_all(engine)
with Session(engine) as session:
    session.add_all([Note(text=f"note {n}") for n in range(30)])
    session.commit()
    note = session.get(Note, 3)
    note.text = "changed"
    session.flush()
    print(session.scalar(select(func.count()).select_from(Note).where(Note.text == "changed")))
    session.rollback()
    print(session.get(Note, 3).text)
    session.delete(session.get(Note, 4))
    session.commit()
    try:
        session.execute(text("INSERT INTO orm_notes (id, text) VALUES (1, 'twice')"))
    except IntegrityError as error:
        print(type(error.orig).__name__)
        session.rollback()
    with session.begin_nested():
        session.add(Note(text="in a savepoint"))
    session.commit()
    print(session.scalars(select(Note.text).order_by(Note.id)).all())
print("finished")
