package server

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

// FuzzSplitArray compares with encoding/json: both see an array or neither, and the same elements in it.
func FuzzSplitArray(f *testing.F) {
	for _, seed := range []string{
		`[]`, ` [ ] `, `[1]`, `[1,2`, `[1,]`, `[,1]`, `[1 2]`, `[[1,2],{"a":[3]}]`, `["]","[",",","\"","\\",""]`, `["\\\"]"]`,
		`{"a":1}`, `"[]"`, `[]]`, "[\n{}\t,\r{}]", "[\"\xff\"]", `[null,true,-1e9]`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		var want []json.RawMessage
		err := json.Unmarshal(doc, &want)
		items, ok := splitArray(doc, len(doc))
		require.Equal(t, err == nil && want != nil, ok)
		if !ok {
			return
		}
		require.Len(t, items, len(want))
		for i := range items {
			require.Equal(t, string(want[i]), string(items[i]))
		}
		fewer, _ := splitArray(doc, 1)
		require.Len(t, fewer, min(len(want), 2), "it stops at what is too much")
	})
}

// FuzzSplitLines compares with a plain split: the same bytes but for blank ones around items, and no line break in any.
func FuzzSplitLines(f *testing.F) {
	for _, seed := range []string{"", "\n", "{}\n", "{}\r\n\r\n{}", " 1 \n\t\n2", "a\rb", "\xff\x00\n"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		items := splitLines(doc, len(doc))
		var want [][]byte
		for _, line := range bytes.Split(doc, []byte{'\n'}) {
			if line = bytes.Trim(line, blank); len(line) > 0 {
				want = append(want, line)
			}
		}
		require.Equal(t, want, items)
		require.Len(t, splitLines(doc, 1), min(len(want), 2), "it stops at what is too much")
	})
}
