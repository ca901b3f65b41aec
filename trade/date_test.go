package trade

import (
	"fmt"
	"regexp"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

const (
	minDate Date = -719162 // 0001-01-01
	maxDate Date = 2932896 // 9999-12-31
)

func date(t *testing.T, s string) Date {
	t.Helper()
	d, ok := ParseDate(s)
	require.True(t, ok, s)
	return d
}

// referenceDate is the rule of dates written with the standard library.
func referenceDate(s string) (time.Time, bool) {
	t, err := time.Parse(time.DateOnly, s)
	return t, err == nil && dateForm.MatchString(s) && t.Year() >= 1
}

var dateForm = regexp.MustCompile(`^[0-9]{4}-[0-9]{2}-[0-9]{2}$`)

func checkDate(t require.TestingT, s string) {
	want, good := referenceDate(s)
	got, ok := ParseDate(s)
	require.Equal(t, good, ok, "%q", s)
	fromBytes, bytesOK := ParseDate([]byte(s))
	require.Equal(t, ok, bytesOK)
	require.Equal(t, got, fromBytes)
	if !ok {
		require.Zero(t, got)
		return
	}
	require.Equal(t, want, got.Time())
	require.Equal(t, s, got.String())
	require.Equal(t, got, DateOf(want))
}

func TestParseDateLimits(t *testing.T) {
	t.Parallel()
	f := func(s string, want Date) {
		t.Helper()
		require.Equal(t, want, date(t, s))
	}
	f("0001-01-01", minDate)
	f("1969-12-31", -1)
	f("1970-01-01", 0)
	f("1970-01-02", 1)
	f("2000-02-29", 11016)
	f("9999-12-31", maxDate)
}

func TestParseDateAgreesWithTimeParse(t *testing.T) {
	t.Parallel()
	for _, year := range []int{0, 1, 4, 100, 400, 1582, 1600, 1899, 1900, 1969, 1970, 2000, 2023, 2024, 2100, 9999} {
		for month := range 14 {
			for day := range 33 {
				checkDate(t, fmt.Sprintf("%04d-%02d-%02d", year, month, day))
			}
		}
	}
	dates := rapid.StringMatching(`[0-9]{4}-[01][0-9]-[0-3][0-9]`)
	rapid.Check(t, func(t *rapid.T) { checkDate(t, dates.Draw(t, "date")) })
	rapid.Check(t, func(t *rapid.T) { checkDate(t, rapid.StringMatching(`[-+ 0-9:TZ/]{8,12}`).Draw(t, "date")) })
}

func TestDateOf(t *testing.T) {
	t.Parallel()
	f := func(at string, want string) {
		t.Helper()
		instant, err := time.Parse(time.RFC3339Nano, at)
		require.NoError(t, err)
		require.Equal(t, want, DateOf(instant).String())
	}
	f("1970-01-01T00:00:00Z", "1970-01-01")
	f("1969-12-31T23:59:59.999999999Z", "1969-12-31")
	f("1969-12-31T00:00:00Z", "1969-12-31")
	f("1969-12-30T23:59:59Z", "1969-12-30")
	f("2026-11-22T23:59:59.999999999Z", "2026-11-22")
	f("2026-11-23T00:00:00Z", "2026-11-23")
	f("2026-11-23T00:59:59+01:00", "2026-11-22") // the day is the UTC one
	f("2026-11-22T23:30:00-01:00", "2026-11-23")
	f("0001-01-01T00:00:00Z", "0001-01-01")
	f("9999-12-31T23:59:59Z", "9999-12-31")
}

func TestDateOfAgreesWithFormat(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		at := time.Unix(rapid.Int64Range(int64(minDate)*secondsPerDay, (int64(maxDate)+1)*secondsPerDay-1).Draw(t, "unix"), 0)
		require.Equal(t, at.UTC().Format(time.DateOnly), DateOf(at).String())
	})
}

func FuzzParseDate(f *testing.F) {
	for _, s := range []string{
		"2024-02-29", "2023-02-29", "0000-01-01", "0001-01-01", "9999-12-31", "10000-01-01", "2024-1-1", "today",
		"２０２４-01-01", "", "2024-01-01T00:00:00Z",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) { checkDate(t, s) })
}
