package trade

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"tradestore/trade/corpus"
)

func cases(tb testing.TB) []corpus.Case {
	tb.Helper()
	all, err := corpus.Cases()
	require.NoError(tb, err)
	return all
}

func TestCorpusIsLabelledRight(t *testing.T) {
	t.Parallel()
	names := map[string]bool{}
	for _, c := range cases(t) {
		require.False(t, names[c.Name], "%s is there twice", c.Name)
		names[c.Name] = true
		good := json.Valid(c.Doc) && utf8.Valid(c.Doc)
		switch c.Name[:2] {
		case "y_":
			require.True(t, good, c.Name)
		case "n_":
			require.False(t, good, c.Name)
		default:
			require.Equal(t, "i_", c.Name[:2])
		}
	}
	require.Greater(t, len(names), 250)
}

func TestCorpusAsBody(t *testing.T) {
	t.Parallel()
	for _, c := range cases(t) {
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			checkDecode(t, c.Doc)
			_, invalid := Decode(c.Doc)
			require.NotNil(t, invalid) // none of the texts is a trade
			if strings.HasPrefix(c.Name, "n_") {
				require.Equal(t, MalformedJSON, invalid.Code)
			}
		})
	}
}

func TestCorpusInsideFields(t *testing.T) {
	t.Parallel()
	for _, c := range cases(t) {
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			for _, field := range fields {
				checkDecode(t, []byte(withValue(field.name, string(c.Doc))))
				checkDecode(t, []byte(withValue(field.name, `"A`+string(c.Doc)+`"`)))
				checkDecode(t, []byte(strings.Replace(goodDoc, `"`+field.name+`"`, string(c.Doc), 1)))
			}
			checkDecode(t, []byte(strings.Replace(goodDoc, "{", `{"unknown":`+string(c.Doc)+",", 1)))
			checkDecode(t, []byte(goodDoc+string(c.Doc)))
			checkDecode(t, []byte(string(c.Doc)+goodDoc))
		})
	}
}
