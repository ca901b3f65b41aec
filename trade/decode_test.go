package trade

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

var (
	goodTrade = Trade{"T-1", 7, "CP.1", "B_1", 22645, 20777}
	goodDoc   = `{"trade_id":"T-1","version":7,"counterparty_id":"CP.1","book_id":"B_1",` +
		`"maturity_date":"2032-01-01","created_date":"2026-11-20"}`
)

// withValue returns the good document with the value of one field replaced by raw JSON.
func withValue(name, raw string) string {
	at := strings.Index(goodDoc, `"`+name+`":`) + len(name) + 3
	end := at + strings.IndexAny(goodDoc[at:], ",}")
	return goodDoc[:at] + raw + goodDoc[end:]
}

// codes writes the violations of a document as "field CODE", joined by commas; empty for a good trade.
func codes(invalid *Invalid) string {
	if invalid == nil {
		return ""
	}
	var all []string
	for _, v := range invalid.Violations {
		all = append(all, strings.TrimSpace(v.Field+" "+string(v.Code)))
	}
	return strings.Join(all, ", ")
}

func TestDecodeGood(t *testing.T) {
	t.Parallel()
	f := func(doc string) {
		t.Helper()
		got, invalid := Decode([]byte(doc))
		require.Nil(t, invalid, doc)
		require.Equal(t, goodTrade, got, doc)
	}
	f(goodDoc)
	f(" \t\r\n" + strings.NewReplacer(":", " :\n", ",", "\t,\r ", "}", " }").Replace(goodDoc) + " \t\r\n")
	f(`{"created_date":"2026-11-20","maturity_date":"2032-01-01","book_id":"B_1",` +
		`"counterparty_id":"CP.1","version":7,"trade_id":"T-1"}`)
	f(strings.Replace(goodDoc, `"T-1"`, `"T\u002d1"`, 1))
	f(strings.Replace(goodDoc, `"T-1"`, `"\u0054\u002D\u0031"`, 1))
	f(strings.Replace(goodDoc, `"trade_id"`, `"trade\u005fid"`, 1))
	f(strings.Replace(goodDoc, `2032-01-01`, `2032\u002d01-01`, 1))
}

func TestDecodeValues(t *testing.T) {
	t.Parallel()
	f := func(name, raw string, want Code) {
		t.Helper()
		got, invalid := Decode([]byte(withValue(name, raw)))
		if want == "" {
			require.Nil(t, invalid, raw)
			return
		}
		require.NotNil(t, invalid, "%s %s", name, raw)
		require.Equal(t, InvalidTrade, invalid.Code, "%s %s", name, raw)
		require.Equal(t, name+" "+string(want), codes(invalid), raw)
		require.Zero(t, got)
	}
	quoted := func(s string) string { return `"` + s + `"` }
	for _, name := range []string{"trade_id", "counterparty_id", "book_id"} {
		f(name, `"A"`, "")
		f(name, `"0"`, "")
		f(name, `"z9._-"`, "")
		f(name, `"NULL"`, "")
		f(name, `"..a"`, FieldFormat)
		f(name, `"A..a"`, "")
		f(name, `""`, FieldRange)
		f(name, quoted(strings.Repeat("x", 63)), "")
		f(name, quoted(strings.Repeat("x", 64)), "")
		f(name, quoted(strings.Repeat("x", 65)), FieldRange)
		f(name, quoted(strings.Repeat(`\u0078`, 64)), "")
		f(name, quoted(strings.Repeat(`\u0078`, 65)), FieldRange)
		f(name, `" A"`, FieldFormat)
		f(name, `"A "`, FieldFormat)
		f(name, `"A B"`, FieldFormat)
		f(name, `"A\r\nB"`, FieldFormat)
		f(name, `"A\tB"`, FieldFormat)
		f(name, `"A/B"`, FieldFormat)
		f(name, `"A\\B"`, FieldFormat)
		f(name, `"A\"B"`, FieldFormat)
		f(name, `"A\/B"`, FieldFormat)
		f(name, `"A%2fB"`, FieldFormat)
		f(name, `"=1+1"`, FieldFormat)
		f(name, `"+A"`, FieldFormat)
		f(name, `"@A"`, FieldFormat)
		f(name, `"-A"`, FieldFormat)
		f(name, `"_A"`, FieldFormat)
		f(name, `".A"`, FieldFormat)
		f(name, `"A@"`, FieldFormat)
		f(name, `"A["`, FieldFormat)
		f(name, "\"A`\"", FieldFormat)
		f(name, `"A{"`, FieldFormat)
		f(name, `"A:"`, FieldFormat)
		f(name, "\"A\x7f\"", FieldFormat)
		f(name, `"É"`, FieldFormat)
		f(name, `"Т1"`, FieldFormat)       // a Cyrillic letter that looks like T
		f(name, `"A１"`, FieldFormat)       // a wide digit
		f(name, `"A\u202eB"`, FieldFormat) // turns the direction of text
		f(name, `"A\u0000"`, FieldFormat)
		f(name, `"\u0000"`, FieldFormat)
		f(name, `"A\ud800B"`, FieldFormat)
		f(name, `"A\udc00"`, FieldFormat)
		f(name, `"A\ud800\ud800"`, FieldFormat)
		f(name, `"A\ud800\u0041"`, FieldFormat)
		f(name, `"A\ud83d\ude00"`, FieldFormat) // a good pair, but not ASCII
		f(name, `"A\ufffd"`, FieldFormat)
		f(name, `1`, FieldType)
		f(name, `true`, FieldType)
		f(name, `false`, FieldType)
		f(name, `null`, FieldRequired)
	}
	f("version", `1`, "")
	f("version", `2`, "")
	f("version", `2147483646`, "")
	f("version", `2147483647`, "")
	f("version", `2147483648`, FieldRange)
	f("version", `4294967295`, FieldRange)
	f("version", `4294967296`, FieldRange)
	f("version", `4294967297`, FieldRange) // 1 in 32 bits
	f("version", `9223372036854775807`, FieldRange)
	f("version", `9223372036854775808`, FieldRange)
	f("version", `18446744073709551616`, FieldRange)
	f("version", `18446744073709551617`, FieldRange) // 1 in 64 bits
	f("version", strings.Repeat("9", 1000), FieldRange)
	f("version", `0`, FieldRange)
	f("version", `-0`, FieldFormat)
	f("version", `-1`, FieldFormat)
	f("version", `-2147483648`, FieldFormat)
	f("version", `1.0`, FieldFormat)
	f("version", `1.5`, FieldFormat)
	f("version", `1e2`, FieldFormat)
	f("version", `1E2`, FieldFormat)
	f("version", `1e+2`, FieldFormat)
	f("version", `100e-2`, FieldFormat)
	f("version", `1e999999`, FieldFormat)
	f("version", `"1"`, FieldType)
	f("version", `""`, FieldType)
	f("version", `"\ud800"`, FieldType)
	f("version", `true`, FieldType)
	f("version", `null`, FieldRequired)
	for _, name := range []string{"maturity_date", "created_date"} {
		f(name, `"0001-01-01"`, "")
		f(name, `"9999-12-31"`, "")
		f(name, `"2024-02-29"`, "")
		f(name, `"2000-02-29"`, "")
		f(name, `"2023-02-29"`, FieldFormat)
		f(name, `"1900-02-29"`, FieldFormat)
		f(name, `"2024-02-30"`, FieldFormat)
		f(name, `"2024-04-31"`, FieldFormat)
		f(name, `"2024-13-01"`, FieldFormat)
		f(name, `"2024-00-01"`, FieldFormat)
		f(name, `"2024-01-00"`, FieldFormat)
		f(name, `"2024-01-32"`, FieldFormat)
		f(name, `"0000-01-01"`, FieldFormat)
		f(name, `"10000-01-01"`, FieldFormat)
		f(name, `"-001-01-01"`, FieldFormat)
		f(name, `"+2024-01-1"`, FieldFormat)
		f(name, `"2024-1-01"`, FieldFormat)
		f(name, `"24-01-01"`, FieldFormat)
		f(name, `"2024/01/01"`, FieldFormat)
		f(name, `"20240101"`, FieldFormat)
		f(name, `"2024-01-01T00:00:00Z"`, FieldFormat)
		f(name, `"2024-01-01 "`, FieldFormat)
		f(name, `" 2024-01-0"`, FieldFormat)
		f(name, `"01-01-2024"`, FieldFormat)
		f(name, `"today"`, FieldFormat)
		f(name, `"infinity"`, FieldFormat)
		f(name, `"２０２４-01-01"`, FieldFormat)
		f(name, `"2024-01-\u00001"`, FieldFormat)
		f(name, `"2024-01-0\ud800"`, FieldFormat)
		f(name, `""`, FieldFormat)
		f(name, `20240101`, FieldType)
		f(name, `false`, FieldType)
		f(name, `null`, FieldRequired)
	}
}

func TestDecodeFields(t *testing.T) {
	t.Parallel()
	f := func(doc, want string) {
		t.Helper()
		got, invalid := Decode([]byte(doc))
		require.NotNil(t, invalid, doc)
		require.Equal(t, InvalidTrade, invalid.Code, doc)
		require.Equal(t, want, codes(invalid), doc)
		require.Zero(t, got)
	}
	plus := func(members string) string { return goodDoc[:len(goodDoc)-1] + "," + members + "}" }
	const others = "version REQUIRED, counterparty_id REQUIRED, book_id REQUIRED, " +
		"maturity_date REQUIRED, created_date REQUIRED"

	f(`{}`, "trade_id REQUIRED, "+others)
	f(`{"trade_id":"A"}`, others)
	f(`{"trade_id":null}`, "trade_id REQUIRED, "+others)
	f(`{"trade_id":"A","trade_id":"A"}`, "trade_id DUPLICATE, "+others)
	f(`{"trade_id":null,"trade_id":"A"}`, "trade_id REQUIRED, trade_id DUPLICATE, "+others)
	f(`{"trade_id":"A","Trade_id":"A"}`, "Trade_id UNKNOWN, "+others)
	f(`{"created_date":1,"version":"1","trade_id":"="}`, "created_date WRONG_TYPE, version WRONG_TYPE, trade_id FORMAT, "+
		"counterparty_id REQUIRED, book_id REQUIRED, maturity_date REQUIRED")

	f(plus(`"version":7`), "version DUPLICATE")
	f(plus(`"v\u0065rsion":7`), "version DUPLICATE")
	f(plus(`"version":7,"version":8`), "version DUPLICATE, version DUPLICATE")
	f(plus(`"VERSION":7`), "VERSION UNKNOWN")
	f(plus(`"Version":7`), "Version UNKNOWN")
	f(plus(`"expired":"N"`), "expired UNKNOWN")
	f(plus(`"expired":true`), "expired UNKNOWN")
	f(plus(`"e\u0078pired":null`), "expired UNKNOWN")
	f(plus(`"a":1,"a":1`), "a UNKNOWN, a UNKNOWN")

	// A name is echoed only if it is harmless.
	f(plus(`"":1`), "UNKNOWN")
	f(plus(`"trade_id ":1`), "UNKNOWN")
	f(plus(`"trade-id":1`), "UNKNOWN")
	f(plus(`"<b>":1`), "UNKNOWN")
	f(plus(`"a\nb":1`), "UNKNOWN")
	f(plus(`"é":1`), "UNKNOWN")
	f(plus(`"\ud800":1`), "UNKNOWN")
	f(plus(`"trade_id\u0000":1`), "UNKNOWN")
	f(plus(`"ver\u017fion":1`), "UNKNOWN") // folds to "version" without regard to case
	f(plus(`"`+strings.Repeat("n", 63)+`":1`), strings.Repeat("n", 63)+" UNKNOWN")
	f(plus(`"`+strings.Repeat("n", 64)+`":1`), strings.Repeat("n", 64)+" UNKNOWN")
	f(plus(`"`+strings.Repeat("n", 65)+`":1`), "UNKNOWN")
}

func TestDecodeMalformed(t *testing.T) {
	t.Parallel()
	f := func(doc string, at int, fault string) {
		t.Helper()
		_, invalid := Decode([]byte(doc))
		require.NotNil(t, invalid, doc)
		require.Equal(t, MalformedJSON, invalid.Code, doc)
		detail := fmt.Sprintf("at byte %d (the first is 0): %s", at, fault)
		require.Equal(t, []Violation{{Code: FieldFormat, Detail: detail}}, invalid.Violations, doc)
	}
	const (
		object = "one flat JSON object is expected, beginning with {"
		name   = "a field name in double quotes is expected"
		comma  = "a comma or } is expected"
		value  = "a string or a number is expected"
		flat   = "a trade is flat: no object or array as a value"
		rest   = "nothing may follow the object"
		open   = "the string has no end"
		digit  = "a digit is expected"
		zero   = "a number has no leading zero"
		utf8   = "the bytes are not valid UTF-8"
		hex    = `four hexadecimal digits are expected after \u`
		ctrl   = "a control character is not allowed in a string"
	)
	f("", 0, object)
	f(" \n", 2, object)
	f("null", 0, object)
	f("[]", 0, object)
	f("123", 0, object)
	f(`"{}"`, 0, object)
	f("NaN", 0, object)
	f("\xef\xbb\xbf{}", 0, object)
	f("\x00{}", 0, object)
	f("\v{}", 0, object)
	f("["+goodDoc+"]", 0, object)

	f("{", 1, name)
	f("{,", 1, name)
	f("{a:1}", 1, name)
	f("{'a':1}", 1, name)
	f("{1:1}", 1, name)
	f("{/**/}", 1, name)
	f(`{"a":1,}`, 7, name)
	f(`{"a":1,,"b":1}`, 7, name)
	f(`{"a"}`, 4, "a colon is expected")
	f(`{"a" 1}`, 5, "a colon is expected")
	f(`{"a"::1}`, 5, value)
	f(`{"a":}`, 5, value)
	f(`{"a":`, 5, "a value is expected")
	f(`{"a":1`, 6, comma)
	f(`{"a":1;`, 6, comma)
	f(`{"a":1]`, 6, comma)
	f(`{"a":1 "b":1}`, 7, comma)
	f(`{"a":1}x`, 7, rest)
	f(`{"a":1}}`, 7, rest)
	f(`{"a":1}{}`, 7, rest)
	f("{}\x00", 2, rest)
	f("{} \xff", 3, rest)
	f(goodDoc+"\n"+goodDoc, len(goodDoc)+1, rest)

	f(`{"a":{}}`, 5, flat)
	f(`{"trade_id":["T"]}`, 12, flat)
	f(`{"a":`+strings.Repeat("[", 100_000), 5, flat)

	f(`{"a":nul}`, 5, value)
	f(`{"a":nulll}`, 9, comma)
	f(`{"a":True}`, 5, value)
	f(`{"a":NaN}`, 5, value)
	f(`{"a":Infinity}`, 5, value)
	f(`{"a":+1}`, 5, value)
	f(`{"a":.5}`, 5, value)
	f(`{"a":-}`, 6, digit)
	f(`{"a":-Infinity}`, 6, digit)
	f(`{"a":1.}`, 7, digit)
	f(`{"a":1e}`, 7, digit)
	f(`{"a":1e+}`, 8, digit)
	f(`{"a":1e+-1}`, 8, digit)
	f(`{"a":01}`, 7, zero)
	f(`{"a":-01}`, 8, zero)
	f(`{"a":00}`, 7, zero)
	f(`{"a":0x1}`, 6, comma)
	f(`{"a":1_0}`, 6, comma)
	f(`{"a":1.5.5}`, 8, comma)

	f(`{"a`, 3, open)
	f(`{"a":"b`, 7, open)
	f(`{"a":"b\"`, 9, open)
	f(`{"a":"\`, 7, open)
	f("{\"a\":\"\n\"}", 6, ctrl)
	f("{\"a\":\"\x00\"}", 6, ctrl)
	f("{\"\x1f\":1}", 2, ctrl)
	f("{\"a\":\"b\xff\"}", 7, utf8)
	f("{\"a\":\"\xc0\x80\"}", 6, utf8)         // NUL in two bytes
	f("{\"a\":\"\xed\xa0\x80\"}", 6, utf8)     // half a surrogate pair
	f("{\"a\":\"\xf4\x90\x80\x80\"}", 6, utf8) // above U+10FFFF
	f("{\"a\":\"é\xc3\"}", 8, utf8)
	f("{\"a\":\"\xc3", 6, utf8)
	f(`{"a":"\x41"}`, 7, "no such escape")
	f(`{"a":"\'"}`, 7, "no such escape")
	f(`{"a":"\U0041"}`, 7, "no such escape")
	f("{\"a\":\"\\\n\"}", 7, "no such escape")
	f(`{"a":"\u"}`, 7, hex)
	f(`{"a":"\u004"}`, 7, hex)
	f(`{"a":"\u00G0"}`, 7, hex)
	f(`{"a":"\u`, 7, hex)
	f(`{"a":"\ud800\u"}`, 13, hex)
}

// Half a pair and NUL are refused before anything decodes them: a decoder that dropped or folded them would make one
// identifier of two, whatever the rule for its bytes says later.
func TestScannerKnowsEscapesThatAreNoText(t *testing.T) {
	t.Parallel()
	f := func(raw string, want bool) {
		t.Helper()
		s := scanner{doc: []byte(`{"` + raw + `":"` + raw + `"}`)}
		require.True(t, s.next(), s.fault)
		for _, token := range []token{s.name, s.value} {
			_, ok := token.text()
			require.Equal(t, want, ok, raw)
		}
		require.False(t, s.next())
		require.Empty(t, s.fault)
	}
	f(`a`, true)
	f(`\u0001`, true)
	f(`\ud7ff`, true)
	f(`\ue000`, true)
	f(`\ud800\udc00`, true)
	f(`\uDBFF\uDFFF`, true)
	f(`\\ud800`, true)
	f(`\u0000`, false)
	f(`a\u0000b`, false)
	f(`\u0000\u0041`, false)
	f(`\ud800`, false)
	f(`\udbff`, false)
	f(`\udc00`, false)
	f(`\udfff`, false)
	f(`\ud800a`, false)
	f(`\ud800\n`, false)
	f(`\ud800\ud800\udc00`, false)
	f(`\ud800\udc00\udc00`, false)
	f(`\udc00\ud800`, false)
	f(`\ud800\\udc00`, false)
}

func TestDecodeReportsAtMost16Violations(t *testing.T) {
	t.Parallel()
	f := func(unknown, want int) {
		t.Helper()
		var members []string
		for i := range unknown {
			members = append(members, fmt.Sprintf(`"f%d":1`, i))
		}
		_, invalid := Decode([]byte(strings.Replace(goodDoc, "{", "{"+strings.Join(members, ",")+",", 1)))
		require.Len(t, invalid.Violations, want)
	}
	f(15, 15)
	f(16, 16)
	f(17, 16)
	f(1000, 16)
}

func TestDecodeFaultBehindViolationsIsMalformed(t *testing.T) {
	t.Parallel()
	_, invalid := Decode([]byte(`{"unknown":1,"version":"x"`))
	require.Equal(t, MalformedJSON, invalid.Code)
	require.Len(t, invalid.Violations, 1)
}

func TestDecodeTextsTeachAndNeverQuoteValues(t *testing.T) {
	t.Parallel()
	f := func(doc, want string) {
		t.Helper()
		_, invalid := Decode([]byte(doc))
		require.EqualError(t, invalid, want)
	}
	f(withValue("version", `"SECRET"`), "INVALID_TRADE: version: "+versionRule)
	f(withValue("trade_id", `"=SECRET"`), "INVALID_TRADE: trade_id: "+idRule)
	f(withValue("created_date", `"SECRET"`), "INVALID_TRADE: created_date: "+dateRule)
	f(withValue("book_id", `SECRET`), "MALFORMED_JSON: at byte 65 (the first is 0): a string or a number is expected")
	f(strings.Replace(goodDoc, "{", `{"<SECRET>":"SECRET",`, 1), "INVALID_TRADE: "+unknownRule)
}

func TestDecodeKeepsNothingOfTheBuffer(t *testing.T) {
	t.Parallel()
	f := func(doc string) {
		t.Helper()
		buf := []byte(doc)
		got, invalid := Decode(buf)
		require.Nil(t, invalid)
		copy(buf, bytes.Repeat([]byte("#"), len(buf)))
		require.Equal(t, goodTrade, got)
	}
	f(goodDoc)
	f(strings.NewReplacer("T-1", `T\u002d1`, "CP.1", `CP\u002e1`, "B_1", `B\u005f1`).Replace(goodDoc))

	unknown := []byte(`{"unknown":1}`)
	_, invalid := Decode(unknown)
	copy(unknown, "#############")
	require.Equal(t, "unknown", invalid.Violations[0].Field)
}

func TestDecodeAllocatesOnlyTheStrings(t *testing.T) {
	doc := []byte(goodDoc)
	require.LessOrEqual(t, testing.AllocsPerRun(100, func() { Decode(doc) }), 3.0)
}

func TestAppendJSON(t *testing.T) {
	t.Parallel()
	require.Equal(t, "#"+goodDoc, string(AppendJSON([]byte("#"), &goodTrade)))
}

// trades draws good trades, with limits drawn often.
func trades() *rapid.Generator[Trade] {
	return rapid.Custom(func(t *rapid.T) Trade {
		id := rapid.StringMatching(`[A-Za-z0-9][A-Za-z0-9._-]{0,63}`)
		day := rapid.Int32Range(int32(minDate), int32(maxDate))
		return Trade{
			TradeID:        id.Draw(t, "trade_id"),
			Version:        rapid.Int32Range(1, maxVersion).Draw(t, "version"),
			CounterpartyID: id.Draw(t, "counterparty_id"),
			BookID:         id.Draw(t, "book_id"),
			MaturityDate:   Date(day.Draw(t, "maturity_date")),
			CreatedDate:    Date(day.Draw(t, "created_date")),
		}
	})
}

func TestDecodeReadsWhatAppendJSONWrites(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		want := trades().Draw(t, "trade")
		doc := AppendJSON(nil, &want)
		got, invalid := Decode(doc)
		require.Nil(t, invalid, "%s", doc)
		require.Equal(t, want, got)
	})
}

func TestValidate(t *testing.T) {
	t.Parallel()
	f := func(maturity, today string, want string) {
		t.Helper()
		trade := goodTrade
		trade.MaturityDate = date(t, maturity)
		require.Equal(t, want, codes(trade.Validate(date(t, today))))
	}
	f("2026-11-22", "2026-11-21", "")
	f("2026-11-22", "2026-11-22", "")
	f("2026-11-22", "2026-11-23", "maturity_date IN_PAST")
	f("9999-12-31", "2026-11-22", "")
	f("0001-01-01", "2026-11-22", "maturity_date IN_PAST")
	f("1969-12-31", "1970-01-01", "maturity_date IN_PAST")

	invalid := goodTrade.Validate(goodTrade.MaturityDate + 1)
	require.EqualError(t, invalid, "MATURITY_IN_PAST: maturity_date: not before the business date 2032-01-02 (UTC)")
}

func TestValidateLooksAtMaturityOnly(t *testing.T) {
	t.Parallel()
	trade := goodTrade
	trade.CreatedDate = trade.MaturityDate + 1
	require.Nil(t, trade.Validate(trade.MaturityDate))
}
