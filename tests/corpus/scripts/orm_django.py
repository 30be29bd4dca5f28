"""Django's day at the database: introspection, a migration of a model, small changes by key. Prints what it saw."""

import sys

import django
from django.conf import settings

port, database = sys.argv[1], sys.argv[2]
settings.configure(
    DATABASES={"default": {"ENGINE": "django.db.backends.postgresql", "NAME": database, "USER": "trusty", "HOST": "127.0.0.1", "PORT": port}},
    INSTALLED_APPS=[],
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    USE_TZ=True,
)
django.setup()

from django.db import IntegrityError, connection, models, transaction  # noqa: E402


class Note(models.Model):
    text = models.CharField(max_length=100, db_index=True)
    parent = models.ForeignKey("self", null=True, on_delete=models.CASCADE)

    class Meta:
        app_label = "corpus"
        db_table = "django_notes"


with connection.cursor() as cursor:
    introspection = connection.introspection
    tables = sorted(introspection.table_names(cursor))
    print(tables)
    for table in tables:
        description = introspection.get_table_description(cursor, table)
        print(table, [(one.name, one.null_ok, one.default, one.is_autofield) for one in description])
        print("  keys", sorted(introspection.get_relations(cursor, table).items()))
        print("  constraints", sorted(introspection.get_constraints(cursor, table).items()))
        print("  sequences", introspection.get_sequences(cursor, table))

with connection.schema_editor() as editor:
    editor.create_model(Note)
Note.objects.bulk_create([Note(text=f"note {n}") for n in range(30)])
first = Note.objects.get(pk=1)
first.text = "changed"
first.save()
Note.objects.create(text="child", parent=first)
print(Note.objects.filter(text__startswith="note").count())
print(Note.objects.filter(pk=5).update(text="by key"))
print(Note.objects.get(pk=6).delete())
print(first.delete())
note, made = Note.objects.get_or_create(text="once")
print(made, Note.objects.update_or_create(text="once", defaults={"text": "twice"})[1])
try:
    with transaction.atomic():
        Note.objects.create(pk=note.pk, text="same key")
except IntegrityError as error:
    print(type(error).__name__)
with transaction.atomic():
    locked = Note.objects.select_for_update().get(pk=note.pk)
    print(locked.text)
print(list(Note.objects.order_by("pk").values_list("text", flat=True)[:5]))
print(Note.objects.order_by("pk").explain().splitlines()[0].split("(")[0])
print("finished")
