package trade

import (
	"encoding/binary"
	"math"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// instants draws moments that a version 7 id can carry, in whole microseconds.
func instants() *rapid.Generator[time.Time] {
	return rapid.Map(rapid.Int64Range(0, int64(maxDate)*secondsPerDay*1e6), time.UnixMicro)
}

func TestParseRequestID(t *testing.T) {
	t.Parallel()
	f := func(s string, good bool) {
		t.Helper()
		id, err := ParseRequestID(s)
		fromBytes, bytesErr := ParseRequestID([]byte(s))
		require.Equal(t, err, bytesErr)
		require.Equal(t, id, fromBytes)
		if !good {
			require.ErrorIs(t, err, ErrRequestID, s)
			require.True(t, id.IsZero())
			return
		}
		require.NoError(t, err, s)
		require.Equal(t, s, id.String())
	}
	f("019e7c1a-5b7e-7c40-9f4e-3a1f0c2d4b6a", true)
	f("00000000-0000-7000-8000-000000000000", true)
	f("ffffffff-ffff-7fff-bfff-ffffffffffff", true)
	f("019e7c1a-5b7e-8c40-9f4e-3a1f0c2d4b6a", true) // version 8: derived from an idempotency key
	f("019e7c1a-5b7e-7c40-8f4e-3a1f0c2d4b6a", true)
	f("019e7c1a-5b7e-7c40-af4e-3a1f0c2d4b6a", true)
	f("019e7c1a-5b7e-7c40-bf4e-3a1f0c2d4b6a", true)
	f("019e7c1a-5b7e-7c40-7f4e-3a1f0c2d4b6a", false) // variant
	f("019e7c1a-5b7e-7c40-cf4e-3a1f0c2d4b6a", false)
	f("019e7c1a-5b7e-7c40-0f4e-3a1f0c2d4b6a", false)
	f("019e7c1a-5b7e-0c40-9f4e-3a1f0c2d4b6a", false) // version
	f("019e7c1a-5b7e-1c40-9f4e-3a1f0c2d4b6a", false)
	f("019e7c1a-5b7e-4c40-9f4e-3a1f0c2d4b6a", false)
	f("019e7c1a-5b7e-6c40-9f4e-3a1f0c2d4b6a", false)
	f("019e7c1a-5b7e-9c40-9f4e-3a1f0c2d4b6a", false)
	f("019E7C1A-5B7E-7C40-9F4E-3A1F0C2D4B6A", false)
	f("019e7c1a-5b7e-7c40-9f4e-3a1f0c2d4b6A", false)
	f("019e7c1a5b7e7c409f4e3a1f0c2d4b6a", false)
	f("{019e7c1a-5b7e-7c40-9f4e-3a1f0c2d4b6a}", false)
	f("urn:uuid:019e7c1a-5b7e-7c40-9f4e-3a1f0c2d4b6a", false)
	f("019e7c1a-5b7e-7c40-9f4e-3a1f0c2d4b6", false)
	f("019e7c1a-5b7e-7c40-9f4e-3a1f0c2d4b6aa", false)
	f("019e7c1a-5b7e-7c40-9f4e-3a1f0c2d4b6g", false)
	f("019e7c1a-5b7e-7c40-9f4e-3a1f0c2d4b6 ", false)
	f(" 019e7c1a-5b7e-7c40-9f4e-3a1f0c2d4b6", false)
	f("019e7c1a-5b7e-7c40-9f4e-3a1f0c2d4b-a", false)
	f("019e7c1a-5b7e-7c409-f4e-3a1f0c2d4b6a", false)
	f("019e7c1a_5b7e_7c40_9f4e_3a1f0c2d4b6a", false)
	f("019e7c1a-5b7e-7c40-9f4e-3a1f0c2d4b\xff\xff", false)
	f("019e7c1a-5b7e-7c40-9f4e-3a1f0c2d4b１", false)
	f("00000000-0000-0000-0000-000000000000", false)
	f("ffffffff-ffff-ffff-ffff-ffffffffffff", false)
	f("", false)
	f("------------------------------------", false)
}

func TestNewRequestIDIsVersion7(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		now := instants().Draw(t, "now")
		id := NewRequestID(now)
		std, err := uuid.FromBytes(id[:])
		require.NoError(t, err)
		require.Equal(t, std.String(), id.String())
		require.EqualValues(t, 7, std.Version())
		require.Equal(t, uuid.RFC4122, std.Variant())
		require.Equal(t, now.UnixMilli(), int64(binary.BigEndian.Uint64(id[:8])>>16))

		again, err := ParseRequestID(id.String())
		require.NoError(t, err)
		require.Equal(t, id, again)
		require.NotEqual(t, id, NewRequestID(now), "two ids of one instant")

		day, ok := id.Day()
		require.True(t, ok)
		require.Equal(t, DateOf(now), day)
	})
}

func TestNewRequestIDGrowsWithEachMicrosecond(t *testing.T) {
	t.Parallel()
	prefix := func(micros int64) uint64 {
		id := NewRequestID(time.UnixMicro(micros))
		return binary.BigEndian.Uint64(id[:8])
	}
	rapid.Check(t, func(t *rapid.T) {
		micros := instants().Draw(t, "now").UnixMicro()
		require.Less(t, prefix(micros), prefix(micros+1))
	})
	require.Equal(t, uint64(1)<<16|0x7000, prefix(1000))
	require.Equal(t, uint64(1)<<16|0x7800, prefix(1500)) // half of the 12 bits, half of a millisecond
	require.Equal(t, uint64(1)<<16|0x7ffb, prefix(1999))
	start := int64(1_800_000_000_000_000)
	for i := range int64(2000) { // over the end of a millisecond
		require.Less(t, prefix(start+i), prefix(start+i+1))
	}
}

func TestRequestIDDay(t *testing.T) {
	t.Parallel()
	f := func(id, day string, ok bool) {
		t.Helper()
		parsed, err := ParseRequestID(id)
		require.NoError(t, err)
		got, gotOK := parsed.Day()
		require.Equal(t, ok, gotOK)
		if ok {
			require.Equal(t, day, got.String())
		}
	}
	f("00000000-0000-7000-8000-000000000000", "1970-01-01", true)
	f("00000526-5bff-7fff-bfff-ffffffffffff", "1970-01-01", true) // the last millisecond of the day
	f("00000526-5c00-7000-8000-000000000000", "1970-01-02", true)
	f("00000526-5c00-8000-8000-000000000000", "", false)
	_, ok := RequestID{}.Day()
	require.False(t, ok)
	last := RequestID{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x70, 0, 0x80}
	day, ok := last.Day()
	require.True(t, ok)
	require.Less(t, day, Date(math.MaxInt32))
}

func TestRequestIDIsZero(t *testing.T) {
	t.Parallel()
	require.True(t, RequestID{}.IsZero())
	require.False(t, RequestID{15: 1}.IsZero())
	require.False(t, NewRequestID(time.Now()).IsZero())
}

func FuzzParseRequestID(f *testing.F) {
	for _, s := range []string{
		"019e7c1a-5b7e-7c40-9f4e-3a1f0c2d4b6a", "019e7c1a-5b7e-8c40-bf4e-3a1f0c2d4b6a",
		"019E7C1A-5B7E-7C40-9F4E-3A1F0C2D4B6A", "{019e7c1a-5b7e-7c40-9f4e-3a1f0c2d4b6a}",
		"019e7c1a5b7e7c409f4e3a1f0c2d4b6a", "", "------------------------------------",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		id, err := ParseRequestID(s)
		std, stdErr := uuid.Parse(s)
		known := (std.Version() == 7 || std.Version() == 8) && std.Variant() == uuid.RFC4122
		good := stdErr == nil && std.String() == s && known
		require.Equal(t, good, err == nil, "%q", s)
		if good {
			require.Equal(t, [16]byte(std), [16]byte(id))
			require.Equal(t, s, id.String())
		}
	})
}
