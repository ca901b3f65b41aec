//go:build nextrelease

package migrations

import (
	"embed"
	"fmt"
	"io/fs"
	"testing/fstest"
)

// A build with the tag nextrelease stands for the release after this one in the rehearsal of an upgrade
// (test/e2e/upgrade_test.go): it has further migrations, which do what a release may do. It is never shipped.
//
//go:embed next/*.sql
var next embed.FS

func init() {
	files := fstest.MapFS{}
	add := func(from fs.FS, pattern string) {
		names, _ := fs.Glob(from, pattern) // fails for a malformed pattern only
		for _, name := range names {
			text, err := fs.ReadFile(from, name)
			if err != nil {
				panic(err)
			}
			files[fmt.Sprintf("%03d_release.sql", len(files)+1)] = &fstest.MapFile{Data: text}
		}
	}
	add(FS, "*.sql")
	add(next, "next/*.sql")
	FS = files
	Version = int32(len(files))
}
