// Package corpus holds texts that JSON parsers are known to get wrong, for the tests of everything that decodes.
package corpus

import (
	_ "embed" // of the texts
	"fmt"
	"strconv"
	"strings"
)

//go:embed corpus.txt
var text string // its first lines explain it

// Case is one text. None of them is a good trade.
type Case struct {
	Name string // y_: JSON, n_: not JSON, i_: parsers may treat it as they like
	Doc  []byte
}

// Cases returns the texts. Errors: a line that is not one.
func Cases() ([]Case, error) {
	var cases []Case
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if line == "" || line[0] == '#' {
			continue
		}
		name, rest, _ := strings.Cut(line, " ")
		literal, err := strconv.QuotedPrefix(strings.TrimSpace(rest))
		if err != nil {
			return nil, fmt.Errorf("cannot read %s: %w", line, err)
		}
		doc, err := strconv.Unquote(literal)
		if err != nil {
			return nil, fmt.Errorf("cannot read %s: %w", line, err)
		}
		if _, times, ok := strings.Cut(rest, literal+" * "); ok {
			n, err := strconv.Atoi(times)
			if err != nil {
				return nil, fmt.Errorf("cannot read %s: %w", line, err)
			}
			doc = strings.Repeat(doc, n)
		}
		cases = append(cases, Case{name, []byte(doc)})
	}
	return cases, nil
}
