package server

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestPreferenceToWait(t *testing.T) {
	t.Parallel()
	f := func(want int, fields ...string) {
		t.Helper()
		raw := ""
		for _, field := range fields {
			raw += "Prefer: " + field + "\r\n"
		}
		h := readHead([]byte(raw + "\r\n"))
		assert.Equal(t, want, h.wait, raw)
		assert.Empty(t, h.fault)
	}
	f(0)
	f(10, "wait=10")
	f(10, "Wait=10")
	f(10, "wait = 10")
	f(10, "wait\t=\t10 ")
	f(10, "respond-async, wait=10")
	f(10, "respond-async,wait=10,,")
	f(10, " , wait=10")
	f(10, "wait=10; x")
	f(10, "wait=10; x=\"a,b;c\\\"\" ; ; y = z, other")
	f(10, "return=minimal; foo=\"some, wait=5\", wait=10")
	f(10, "respond-async", "wait=10")
	f(10, `handling="", wait=10`)
	f(7, "wait=007")
	f(maxPreferSeconds, "wait="+strings.Repeat("9", 100))

	// Of several the first counts (RFC 7240, section 2).
	f(10, "wait=10, wait=20")
	f(10, "wait=10", "wait=20")
	f(0, "wait=soon, wait=20")
	f(0, "wait", "wait=20")

	// What is not 1*DIGIT is ignored.
	f(0, "wait")
	f(0, "wait=")
	f(0, "wait=0")
	f(0, "wait=-1")
	f(0, "wait=+1")
	f(0, "wait=1.5")
	f(0, "wait=1s")
	f(0, `wait="10"`)
	f(0, `wait=""`)
	f(0, "wait=1_0")
	f(0, "waiting=10")
	f(0, "x-wait=10")

	// What does not follow the grammar is ignored, and so is all behind it.
	f(0, "wait=10 20")
	f(0, "wait 10")
	f(0, "wait:10")
	f(0, "=10, wait=10")
	f(0, "wait==10")
	f(0, `foo="open, wait=10`)
	f(0, "foo bar, wait=10")
	f(0, "(, wait=10")
	f(0, "wait=10; =")
	f(5, "wait=5, (")
}

func FuzzPrefer(f *testing.F) {
	f.Add([]byte(`a="\"", wait=10;x=y`))
	f.Fuzz(func(t *testing.T, field []byte) {
		var h head
		h.prefer(field)
		if h.wait < 0 || h.wait > maxPreferSeconds {
			t.Fatalf("%q waits for %d s", field, h.wait)
		}
	})
}
