package loadtest

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/html"
)

// hostile texts are what a server may put into its answers and metrics.
var hostile = []string{
	`</script><script>alert(1)</script>`, `<!--<script>`, `"><img src=x onerror=alert(1)>`, `' onmouseover='alert(1)`,
	`javascript:alert(1)`, `{{.Run}}`, "\u2028;alert(1)//", `</style><style>*{display:none}`, `]]>`, `&lt;b&gt;`,
	"\x00\x1b]0;x\x07",
	"a\n| b | c |\n", "\xff\xfe", "\u202e", "\u2000", `[x](javascript:alert(1))`, "`code`", `</title>`,
}

// fill puts a text into every string of a value, whatever there is.
func fill(v reflect.Value, text string) {
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
	case reflect.Pointer:
		if !v.IsNil() {
			fill(v.Elem(), text)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				fill(v.Field(i), text)
			}
		}
	case reflect.Slice:
		for i := range v.Len() {
			fill(v.Index(i), text)
		}
	case reflect.Map:
		v.Set(reflect.ValueOf(map[string]uint64{text: 1}))
	default:
	}
}

// full is a report with everything in it, and a text in place of every string.
func full(text string) *Report {
	r := sampleReport(12)
	r.Why, r.Notes = []string{"x"}, []string{"x"}
	r.Capacity = sampleCapacity()
	r.Reconciliation.Lost = Offenders{1, []string{"x"}}
	if text != "" {
		fill(reflect.ValueOf(r).Elem(), text)
	}
	return r
}

// parse makes a page and reads it as a browser would. It returns every element in order.
func parse(t testing.TB, r *Report) []*html.Node {
	t.Helper()
	text, err := writeHTML(r)
	require.NoError(t, err)
	root, err := html.Parse(strings.NewReader(string(text)))
	require.NoError(t, err)
	var all []*html.Node
	for n := range root.Descendants() {
		if n.Type == html.ElementNode {
			all = append(all, n)
		}
	}
	return all
}

func attribute(n *html.Node, name string) string {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}

// shape is what the elements of a page are, without their texts: of every element its name and its attributes' names.
func shape(nodes []*html.Node) string {
	var b strings.Builder
	for _, n := range nodes {
		b.WriteString(n.Data)
		for _, a := range n.Attr {
			b.WriteString(" " + a.Key)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func TestPageNeedsNothingFromOutside(t *testing.T) {
	seen := map[string]bool{}
	for _, n := range parse(t, full("")) {
		seen[n.Data] = true
		for _, a := range n.Attr {
			assert.NotContains(t, []string{"src", "href", "style", "srcset", "action"}, a.Key, n.Data)
			assert.False(t, strings.HasPrefix(a.Key, "on"), "%s of %s", a.Key, n.Data)
		}
		if n.Data == "style" {
			assert.NotRegexp(t, `url\(|@import|expression`, n.FirstChild.Data)
		}
	}
	for _, name := range []string{"link", "iframe", "object", "embed", "base", "form", "img"} {
		assert.False(t, seen[name], name)
	}
	for _, text := range []string{pageScript, withScript} {
		assert.NotRegexp(t, `fetch\(|XMLHttpRequest|import\(|WebSocket|innerHTML|eval\(|https?:`, text)
	}
}

// The browser runs what the policy names: our scripts as they are in the page, and nothing else.
func TestPolicyAllowsTheScriptsOfThePage(t *testing.T) {
	var policy string
	var texts []string
	for _, n := range parse(t, full("")) {
		switch {
		case attribute(n, "http-equiv") == "Content-Security-Policy":
			policy = attribute(n, "content")
		case n.Data == "style", n.Data == "script" && attribute(n, "type") == "":
			texts = append(texts, n.FirstChild.Data)
		}
	}
	require.Len(t, texts, 4)
	assert.True(t, strings.HasPrefix(policy, "default-src 'none'; "), policy)
	assert.NotContains(t, policy, "unsafe")
	for _, text := range texts {
		sum := sha256.Sum256([]byte(text))
		assert.Contains(t, policy, "'sha256-"+base64.StdEncoding.EncodeToString(sum[:])+"'")
	}
	assert.Equal(t, len(texts), strings.Count(policy, "sha256-"))
}

func TestPageIsReadableByAll(t *testing.T) {
	ids := map[string]int{}
	nodes := parse(t, full(""))
	for _, n := range nodes {
		if id := attribute(n, "id"); id != "" {
			ids[id]++
		}
		switch n.Data {
		case "html":
			assert.Equal(t, "en", attribute(n, "lang"))
		case "title":
			assert.Equal(t, "PASS: load test of http://127.0.0.1:41873", n.FirstChild.Data)
		case "th":
			assert.NotEmpty(t, attribute(n, "scope"))
		case "div":
			if attribute(n, "role") == "img" {
				assert.NotEmpty(t, attribute(n, "aria-label"))
			}
		}
	}
	for _, n := range nodes {
		if to := attribute(n, "aria-labelledby"); to != "" {
			assert.Equal(t, 1, ids[to], to)
		}
	}
	for id, times := range ids {
		assert.Equal(t, 1, times, id)
	}
}

// Without a script the page still holds every figure; with it, every chart finds its data and its place.
func TestEveryChartHasDataAndATable(t *testing.T) {
	type shown struct {
		ID    string       `json:"id"`
		Lines []chartLine  `json:"lines"`
		Data  [][]*float64 `json:"data"`
	}
	var data struct {
		Until, Warmup, End float64
		Charts             []shown
	}
	plots := map[string]bool{}
	r := full("")
	r.Capacity = nil
	for _, n := range parse(t, r) {
		switch {
		case attribute(n, "id") == "data":
			require.NoError(t, json.Unmarshal([]byte(n.FirstChild.Data), &data))
		case attribute(n, "class") == "plot":
			plots[attribute(n, "id")] = true
			table := n.NextSibling.NextSibling
			assert.Equal(t, "details", table.Data)
		}
	}
	assert.EqualValues(t, 5, data.Warmup)
	assert.EqualValues(t, 12, data.End)
	assert.EqualValues(t, 12, data.Until)
	require.Len(t, data.Charts, 7)
	for _, c := range data.Charts {
		assert.True(t, plots[c.ID], c.ID)
		assert.Len(t, c.Data, len(c.Lines)+1)
		for _, column := range c.Data {
			assert.Len(t, column, len(c.Data[0]))
		}
	}
}

func TestPageOfASearch(t *testing.T) {
	text, err := writeHTML(full(""))
	require.NoError(t, err)
	for _, want := range []string{"Saturated first", `id="capacity-accepted"`, `id="capacity-latency"`,
		"accept p99 was 180 ms, above 100 ms", `"warmup":0,"end":0`} {
		assert.Contains(t, string(text), want)
	}
}

func TestPageOfARunThatDidNotHappen(t *testing.T) {
	text, err := writeHTML(&Report{Verdict: Fail, Why: []string{"the target is not ready"}})
	require.NoError(t, err)
	for _, want := range []string{"the target is not ready", "Nothing was compared", "None was judged", `"charts":[]`} {
		assert.Contains(t, string(text), want)
	}
	assert.NotContains(t, string(text), "✓")
}

func TestHostileTextStaysText(t *testing.T) {
	want := shape(parse(t, full("x")))
	for _, text := range hostile {
		require.Equal(t, want, shape(parse(t, full(text))), "%q", text)
	}
}

func FuzzPage(f *testing.F) {
	for _, text := range hostile {
		f.Add(text)
	}
	want := shape(parse(f, full("x")))
	f.Fuzz(func(t *testing.T, text string) {
		require.Equal(t, want, shape(parse(t, full("x"+text))))
	})
}
