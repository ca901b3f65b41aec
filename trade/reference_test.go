package trade

import (
	"bytes"
	"encoding/json"
	"io"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"tradestore/trade/corpus"
)

// reference is a second decoder, written from the rules with encoding/json and regular expressions. It returns the
// trade or the code of the refusal.
func reference(doc []byte) (Trade, Code) {
	if !utf8.Valid(doc) || !json.Valid(doc) {
		return Trade{}, MalformedJSON
	}
	values, duplicate, flat := flatObject(doc)
	if !flat {
		return Trade{}, MalformedJSON
	}
	if duplicate || len(values) != 6 {
		return Trade{}, InvalidTrade
	}
	id := func(name string) (string, bool) {
		s, ok := values[name].(string)
		return s, ok && idForm.MatchString(s)
	}
	day := func(name string) (Date, bool) {
		s, _ := values[name].(string)
		t, ok := referenceDate(s)
		return Date(t.Unix() / secondsPerDay), ok
	}
	var t Trade
	var ok [6]bool
	t.TradeID, ok[0] = id("trade_id")
	t.CounterpartyID, ok[1] = id("counterparty_id")
	t.BookID, ok[2] = id("book_id")
	t.MaturityDate, ok[3] = day("maturity_date")
	t.CreatedDate, ok[4] = day("created_date")
	number, _ := values["version"].(json.Number)
	version, err := strconv.ParseInt(number.String(), 10, 32)
	t.Version, ok[5] = int32(version), err == nil && versionForm.MatchString(number.String())
	if ok != [6]bool{true, true, true, true, true, true} {
		return Trade{}, InvalidTrade
	}
	return t, ""
}

var (
	idForm      = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)
	versionForm = regexp.MustCompile(`^[1-9][0-9]*$`)
)

// flatObject reads valid JSON. flat is false for anything but an object without nesting.
func flatObject(doc []byte) (values map[string]any, duplicate, flat bool) {
	d := json.NewDecoder(bytes.NewReader(doc))
	d.UseNumber()
	if open, _ := d.Token(); open != json.Delim('{') {
		return nil, false, false
	}
	values = map[string]any{}
	for d.More() {
		name, _ := d.Token()
		value, err := d.Token()
		if _, nested := value.(json.Delim); nested || err != nil {
			return nil, false, false
		}
		if _, ok := values[name.(string)]; ok {
			duplicate = true
		}
		values[name.(string)] = value
	}
	return values, duplicate, true
}

// document is how encoding/json reads a trade.
type document struct {
	TradeID        string `json:"trade_id"`
	Version        int32  `json:"version"`
	CounterpartyID string `json:"counterparty_id"`
	BookID         string `json:"book_id"`
	MaturityDate   string `json:"maturity_date"`
	CreatedDate    string `json:"created_date"`
}

// checkDecode compares Decode with the reference, and what it accepts with encoding/json and with itself.
func checkDecode(t require.TestingT, doc []byte) {
	buf := bytes.Clone(doc)
	got, invalid := Decode(buf)
	require.Equal(t, doc, buf, "the document was changed")
	want, code := reference(doc)
	require.Equal(t, want, got, "%q", doc)
	if invalid != nil {
		require.Equal(t, code, invalid.Code, "%q", doc)
		checkInvalid(t, invalid)
		return
	}
	require.Empty(t, code, "accepted: %q", doc)

	var std document
	d := json.NewDecoder(bytes.NewReader(doc))
	d.DisallowUnknownFields()
	require.NoError(t, d.Decode(&std), "%q", doc)
	_, err := d.Token()
	require.ErrorIs(t, err, io.EOF, "%q", doc)
	require.Equal(t, std, document{
		got.TradeID, got.Version, got.CounterpartyID, got.BookID, got.MaturityDate.String(), got.CreatedDate.String(),
	})

	again, invalid := Decode(AppendJSON(nil, &got))
	require.Nil(t, invalid)
	require.Equal(t, got, again)
}

var (
	faultText = regexp.MustCompile(`^at byte \d+ \(the first is 0\): [[:print:]]+$`)
	nameForm  = regexp.MustCompile(`^[A-Za-z0-9_]{0,64}$`)
)

// checkInvalid checks that a refusal has a text and quotes no input.
func checkInvalid(t require.TestingT, invalid *Invalid) {
	require.NotEmpty(t, invalid.Violations)
	require.LessOrEqual(t, len(invalid.Violations), 16)
	for _, v := range invalid.Violations {
		require.NotEmpty(t, v.Code)
		require.Regexp(t, nameForm, v.Field)
		if invalid.Code == MalformedJSON {
			require.Regexp(t, faultText, v.Detail)
			continue
		}
		require.Contains(t, []string{idRule, versionRule, dateRule, unknownRule, "present more than once"}, v.Detail)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(goodDoc))
	f.Add([]byte(`{"created_date":"2026-11-20","maturity_date":"9999-12-31","book_id":"b",` +
		`"counterparty_id":"c","version":2147483647,"trade_id":"\u0054"}`))
	for i, c := range cases(f) {
		if len(c.Doc) > 1000 {
			continue // long seeds make the search slow and find nothing more
		}
		f.Add(c.Doc)
		f.Add([]byte(withValue(fields[i%len(fields)].name, string(c.Doc))))
	}
	f.Fuzz(func(t *testing.T, doc []byte) { checkDecode(t, doc) })
}

// Documents made of good, odd and broken pieces, which random mutation would rarely find.
func TestDecodeAgreesWithTheReference(t *testing.T) {
	t.Parallel()
	odd := rapid.SampledFrom(cases(t))
	space := rapid.SampledFrom([]string{"", "", "", " ", "\n", "\t", "\r\n ", "\f", "\u00a0"})
	value := rapid.OneOf(
		rapid.SampledFrom([]string{
			`"A"`, `"T-1"`, `"T\u002d1"`, `1`, `2147483647`, `2147483648`, `"2024-02-29"`, `"2023-02-29"`,
			`"2024\u002d02-29"`, `null`, `"1"`, `""`,
		}),
		rapid.Map(odd, func(c corpus.Case) string { return string(c.Doc[:min(len(c.Doc), 100)]) }),
	)
	rapid.Check(t, func(rt *rapid.T) {
		doc := space.Draw(rt, "space") + "{"
		for i, field := range rapid.Permutation(fields[:]).Draw(rt, "order") {
			name, raw := `"`+field.name+`"`, rawValue(field.name)
			switch rapid.IntRange(0, 30).Draw(rt, "change") {
			case 0:
				raw = value.Draw(rt, "value")
			case 1:
				name = value.Draw(rt, "name")
			case 2:
				name = strings.Replace(name, "_", `\u005f`, 1)
			case 3:
				name += space.Draw(rt, "space")
			case 4:
				raw += "," + name + ":" + raw
			case 5:
				continue
			}
			if i > 0 {
				doc += "," + space.Draw(rt, "space")
			}
			doc += name + ":" + raw
		}
		doc += "}" + space.Draw(rt, "space")
		checkDecode(rt, []byte(doc))
	})
}

// rawValue returns the raw value of a field of the good document.
func rawValue(name string) string {
	_, rest, _ := strings.Cut(goodDoc, `"`+name+`":`)
	return rest[:strings.IndexAny(rest, ",}")]
}
