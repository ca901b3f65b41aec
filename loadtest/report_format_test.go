package loadtest

import (
	"math"
	"os/exec"
	"strings"
	"testing"
	"unicode"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestFiguresAreWrittenForReaders(t *testing.T) {
	f := func(want, have string) {
		t.Helper()
		assert.Equal(t, want, have)
	}
	f("0", asCount(0))
	f("999", asCount(999))
	f("1,000", asCount(1000))
	f("18,446,744,073,709,551,615", asCount(math.MaxUint64))

	f("0", asNumber(0))
	f("1", asNumber(1))
	f("0.31", asNumber(0.312))
	f("0.001", asNumber(0.001))
	f("12", asNumber(12))
	f("12.3", asNumber(12.34))
	f("831", asNumber(831.2))
	f("1,000", asNumber(999.98))
	f("-1,234", asNumber(-1234))
	f("?", asNumber(math.NaN()))

	f("0 s", asSeconds(0))
	f("850 µs", asSeconds(0.00085))
	f("1 ms", asSeconds(0.0009996))
	f("12.3 ms", asSeconds(0.0123))
	f("1 s", asSeconds(0.9996))
	f("4.50 s", asSeconds(4.5))

	f("210 ms", asTook(0.21))
	f("12.3 s", asTook(12.3))
	f("1m12s", asTook(71.84))

	f("0 %", asShare(0))
	f("100 %", asShare(1))
	f("99.96 %", asShare(0.9996))
	f("99.9999 %", asShare(0.999999))
	f("0.002 %", asShare(0.000017))
	f("51.2 %", asShare(0.512))
	f("1e-10 %", asShare(1e-12))

	f("12 records", asAmount(12, "records"))
	f("64 MiB", asAmount(64<<20, "bytes"))
	f("1.50 GiB", asAmount(3<<29, "bytes"))
	f("3 ms", asAmount(0.003, "seconds"))

	f("1 row", plural(1, "row", "rows"))
	f("2,000 rows", plural(2000, "row", "rows"))

	f("Memory", capital("memory"))
	f("CPU", capital("CPU"))
	f("Éa", capital("éa"))
}

func TestForeignTextIsPlain(t *testing.T) {
	f := func(in, want string) {
		t.Helper()
		assert.Equal(t, want, plain(in))
	}
	f("", "")
	f(`connection reset: "x" \ y`, `connection reset: "x" \ y`)
	f("München 12 µs", "München 12 µs")
	f("a\x1b[2Jb", `a\x1b[2Jb`)
	f("a\nb\t\"c\"", `a\nb\t"c"`)
	f("\u202egnp", `\u202egnp`)
	f("\xff", `\xff`)
}

// What a shell makes of the command is what the settings say, whatever they are.
func TestCommandSurvivesTheShell(t *testing.T) {
	f := func(value string) {
		t.Helper()
		r := &Report{Seed: 7, Settings: []Setting{{"target", value}, {"find-capacity", "false"}, {"topic", ""},
			{"seed", "0"}}}
		out, err := exec.Command("sh", "-c", `set -- `+r.Command()+`; printf '%s\n' "$@"`).Output()
		require.NoError(t, err)
		assert.Equal(t, "tradestore\nloadtest\n--target="+value+"\n--seed=7\n", string(out))
	}
	f("http://127.0.0.1:8000")
	f("new=70,read-trade=30")
	f("it's $HOME `id` \"x\" \\ * ~ # & ; |")
	f("--")
	assert.Equal(t, "tradestore loadtest --seed=9", (&Report{Seed: 9}).Command())
}

func FuzzText(f *testing.F) {
	for _, s := range hostile {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, r := range plain(s) + markdown(s) {
			require.True(t, unicode.IsPrint(r), "%q became %q", s, plain(s))
		}
		quoted := shell(plain(s))
		if inner, ok := strings.CutPrefix(quoted, "'"); ok {
			require.NotContains(t, strings.ReplaceAll(strings.TrimSuffix(inner, "'"), `'\''`, ""), "'")
		}
	})
}
