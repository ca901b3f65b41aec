package trade

import (
	"bufio"
	"encoding/json"
	"os"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

// corpusCase is one text of testdata/corpus.txt, whose first lines explain it.
type corpusCase struct {
	name string
	doc  []byte
}

func corpus(tb testing.TB) []corpusCase {
	tb.Helper()
	file, err := os.Open("testdata/corpus.txt")
	require.NoError(tb, err)
	defer file.Close()
	var cases []corpusCase
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		line := lines.Text()
		if line == "" || line[0] == '#' {
			continue
		}
		name, rest, _ := strings.Cut(line, " ")
		literal, err := strconv.QuotedPrefix(strings.TrimSpace(rest))
		require.NoError(tb, err, line)
		doc, err := strconv.Unquote(literal)
		require.NoError(tb, err, line)
		if _, times, ok := strings.Cut(rest, literal+" * "); ok {
			n, err := strconv.Atoi(times)
			require.NoError(tb, err, line)
			doc = strings.Repeat(doc, n)
		}
		cases = append(cases, corpusCase{name, []byte(doc)})
	}
	require.NoError(tb, lines.Err())
	return cases
}

func TestCorpusIsLabelledRight(t *testing.T) {
	names := map[string]bool{}
	for _, c := range corpus(t) {
		require.False(t, names[c.name], "%s is there twice", c.name)
		names[c.name] = true
		good := json.Valid(c.doc) && utf8.Valid(c.doc)
		switch c.name[:2] {
		case "y_":
			require.True(t, good, c.name)
		case "n_":
			require.False(t, good, c.name)
		default:
			require.Equal(t, "i_", c.name[:2])
		}
	}
	require.Greater(t, len(names), 250)
}

func TestCorpusAsBody(t *testing.T) {
	for _, c := range corpus(t) {
		t.Run(c.name, func(t *testing.T) {
			checkDecode(t, c.doc)
			_, invalid := Decode(c.doc)
			require.NotNil(t, invalid) // none of the texts is a trade
			if strings.HasPrefix(c.name, "n_") {
				require.Equal(t, MalformedJSON, invalid.Code)
			}
		})
	}
}

func TestCorpusInsideFields(t *testing.T) {
	for _, c := range corpus(t) {
		t.Run(c.name, func(t *testing.T) {
			for _, field := range fields {
				checkDecode(t, []byte(withValue(field.name, string(c.doc))))
				checkDecode(t, []byte(withValue(field.name, `"A`+string(c.doc)+`"`)))
				checkDecode(t, []byte(strings.Replace(goodDoc, `"`+field.name+`"`, string(c.doc), 1)))
			}
			checkDecode(t, []byte(strings.Replace(goodDoc, "{", `{"unknown":`+string(c.doc)+",", 1)))
			checkDecode(t, []byte(goodDoc+string(c.doc)))
			checkDecode(t, []byte(string(c.doc)+goodDoc))
		})
	}
}
