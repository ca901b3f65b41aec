// Package migrations holds the database schema as numbered SQL files, embedded so that the binary carries its schema.
//
// The files are those of tern (https://github.com/jackc/tern) and work with its command too:
//
//	tern migrate --migrations migrations --conn-string "$TRADESTORE_DATABASE_URL"
//	tern migrate --migrations migrations --conn-string "$TRADESTORE_DATABASE_URL" --destination -1
//
// A released file is never edited; a change of the schema is a new file with the next number. It must not disturb the
// release that runs meanwhile: lint_test.go refuses statements that block writers, and those that take away what an
// older build uses without raising schema_range.compatible_since (expand first, contract a release later).
package migrations

import (
	"embed"
	"io/fs"
)

// FS holds the migrations, NNN_name.sql, numbered from 001 without holes.
var FS fs.FS = released

//go:embed *.sql
var released embed.FS

// VersionTable is where tern keeps the version, under the name that its command takes by default.
const VersionTable = "public.schema_version"

// Version is the newest schema that this build knows: the number of its migrations. A newer one says itself, in table
// schema_range, whether it works with builds of this version.
var Version = count()

// Oldest is the oldest schema that this build works with.
const Oldest = 4

func count() int32 {
	names, _ := fs.Glob(FS, "*.sql") // fails for a malformed pattern only
	return int32(len(names))
}
