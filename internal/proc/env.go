package proc

import (
	"os"
	"strings"
)

// IgnoreLibpq removes the variables of libpq (PGOPTIONS, PGSERVICE, PGSSLROOTCERT, ...) from the environment of this
// process. pgx takes from them what a URL leaves open. A user who has set them for a server of theirs does not mean the
// embedded one. https://www.postgresql.org/docs/current/libpq-envars.html
func IgnoreLibpq() {
	for _, pair := range os.Environ() {
		if name, _, _ := strings.Cut(pair, "="); strings.HasPrefix(name, "PG") {
			_ = os.Unsetenv(name) // fails only for an invalid name
		}
	}
}
