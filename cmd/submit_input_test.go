package cmd

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"
)

// readAll returns the items of an input, one text each.
func readAll(t *testing.T, in *input) []string {
	t.Helper()
	var got []string
	for {
		it, err := in.next()
		if errors.Is(err, io.EOF) {
			return got
		}
		require.NoError(t, err)
		if it.body == nil {
			got = append(got, fmt.Sprintf("%d ! %s", it.line, it.fault))
		} else {
			got = append(got, fmt.Sprintf("%d %s/%d %s", it.line, it.tradeID, it.version, it.body))
		}
		require.Less(t, len(got), 100, "it does not end")
	}
}

const header = "trade_id,version,counterparty_id,book_id,maturity_date,created_date\n"

func TestInputs(t *testing.T) {
	f := func(format, text string, want ...string) {
		t.Helper()
		for _, reader := range []io.Reader{strings.NewReader(text), iotest.OneByteReader(strings.NewReader(text))} {
			in, err := openInput("-", format, reader)
			require.NoError(t, err)
			require.Equal(t, want, readAll(t, in))
		}
	}
	f("ndjson", "")
	f("ndjson", "\n \r\n")
	f("ndjson", "{\"trade_id\":\"T1\",\"version\":2}\r\n\n{\"trade_id\":3}", `1 T1/2 {"trade_id":"T1","version":2}`,
		`3 /0 {"trade_id":3}`)
	f("ndjson", "{\nnull\n{\"trade_id\":\"T\\u0031\",\"version\":1e9}\n", "1 ! not JSON", "2 /0 null",
		`3 T1/0 {"trade_id":"T\u0031","version":1e9}`)
	f("ndjson", "\xef\xbb\xbf{}\n\x00\xff\n", "1 /0 {}", "2 ! not JSON")
	f("ndjson", strings.Repeat("x", 3*maxItem)+"\n{}", "1 ! a trade of more than 262144 bytes", "2 /0 {}")

	f("json", "")
	f("json", "{ }", "1 /0 { }")
	f("json", "[]")
	f("json", "\ufeff [{\"trade_id\":\"a\"},\n{}]\n", `1 a/0 {"trade_id":"a"}`, "2 /0 {}")
	f("json", "{}{}\n{}", "1 /0 {}", "2 /0 {}", "3 /0 {}")
	f("json", "[{}", "1 /0 {}", "2 ! not readable as JSON from here on: unexpected EOF")
	f("json", "[{},", "1 /0 {}", "2 ! not readable as JSON from here on: unexpected EOF")
	f("json", "[{},}", "1 /0 {}",
		"2 ! not readable as JSON from here on: invalid character '}' looking for beginning of value")
	f("json", "[{}] []", "1 /0 {}", "2 ! not readable as JSON from here on: something follows the array")
	f("json", `["`+strings.Repeat("x", 2*maxItem)+`"]`,
		"1 ! not readable as JSON from here on: a trade of more than 262144 bytes")

	const row = `{"trade_id":"T1","version":1,"counterparty_id":"C","book_id":"B","maturity_date":"M","created_date":"D"}`
	f("csv", header)
	f("csv", header+"T1,1,C,B,M,D\r\n\n\"T\"\"1\",01,\"a\nb\",,,\nT3,-1,,,,", "2 T1/1 "+row,
		`4 T"1/0 {"trade_id":"T\"1","version":"01","counterparty_id":"a\nb",`+
			`"book_id":"","maturity_date":"","created_date":""}`,
		`6 T3/0 {"trade_id":"T3","version":"-1","counterparty_id":"","book_id":"","maturity_date":"","created_date":""}`)
	f("csv", header+"T1,1\nT1,1,C,B,M,D,E\nT\"1,1,C,B,M,D\nT1,1,C,B,M,D\n",
		"2 ! not CSV: wrong number of fields", "3 ! not CSV: wrong number of fields",
		`4 ! not CSV: bare " in non-quoted-field`, "5 T1/1 "+row)
	f("csv", "book_id,version,trade_id,counterparty_id,created_date,maturity_date\nB,1,T1,C,D,M\n",
		`2 T1/1 {"book_id":"B","version":1,"trade_id":"T1","counterparty_id":"C","created_date":"D","maturity_date":"M"}`)
	f("csv", header+"\"T1,1,C,B,M,D\nT2,1,C,B,M,D\n", `2 ! not CSV: extraneous or missing " in quoted-field`)

	in, err := openInput("-", "csv", strings.NewReader(header+"\""+strings.Repeat("T1,1,C,B,M,D\n", maxItem/5)))
	require.NoError(t, err)
	got := readAll(t, in)
	require.Len(t, got, 1)
	require.Contains(t, got[0], "not readable as CSV from here on: a trade of more than")
}

func TestFormatIsToldByNameOrFirstLine(t *testing.T) {
	f := func(want, text string) {
		t.Helper()
		in, err := openInput("-", "auto", iotest.HalfReader(strings.NewReader(text)))
		if want == "" {
			require.ErrorIs(t, err, errFormat)
			return
		}
		require.NoError(t, err)
		require.Equal(t, want, in.format)
	}
	f("ndjson", "")
	f("ndjson", "\n\n{\"a\":1}\n")
	f("ndjson", "{\"a\":1}")
	f("json", "\n [")
	f("json", "{\n\"a\":1}")
	f("csv", header)
	f("csv", "\xef\xbb\xbf"+strings.TrimSpace(header))
	f("", "trade_id,version\n")
	f("", "T1,1,C,B,M,D\n")
	f("", "hello")

	file := func(name, want, text string) {
		t.Helper()
		path := filepath.Join(t.TempDir(), name)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		in, err := openInput(path, "auto", nil)
		require.NoError(t, err)
		require.Equal(t, want, in.format)
		require.Equal(t, int64(len(text)), in.size)
	}
	file("a.JSON", "json", "{}")
	file("a.jsonl", "ndjson", "[]")
	file("a.ndjson", "ndjson", "[]")
	file("a.csv", "csv", header)
	file("a", "csv", header)
	_, err := openInput("-", "csv", strings.NewReader("trade_id,version\n"))
	require.ErrorContains(t, err, "the first line of the CSV has to name these fields")
	_, err = openInput(filepath.Join(t.TempDir(), "no"), "auto", nil)
	require.ErrorIs(t, err, os.ErrNotExist)
}
