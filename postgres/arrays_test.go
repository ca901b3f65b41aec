package postgres

import (
	"testing"

	"github.com/jackc/pgx/v5/pgtype"
	"github.com/stretchr/testify/require"
)

// What is written by hand must be what the general encoder writes.
func TestArraysAreEncodedAsPgxDoes(t *testing.T) {
	t.Parallel()
	general, fast := pgtype.NewMap(), pgtype.NewMap()
	useArrays(fast)
	same := func(oid uint32, value any) {
		t.Helper()
		for _, format := range []int16{pgtype.BinaryFormatCode, pgtype.TextFormatCode} {
			want, err := general.Encode(oid, format, value, []byte("before"))
			require.NoError(t, err)
			got, err := fast.Encode(oid, format, value, []byte("before"))
			require.NoError(t, err)
			require.Equal(t, want, got)
		}
	}
	same(pgtype.Int4ArrayOID, []int32{1, -1, 1<<31 - 1, -1 << 31})
	same(pgtype.Int4ArrayOID, []int32{})
	same(pgtype.Int4ArrayOID, []int32(nil))
	same(pgtype.Int4ArrayOID, []int64{1, 2}) // another type than the column's
	same(pgtype.Int8ArrayOID, []int64{1, -1, 1<<63 - 1, -1 << 63})
	same(pgtype.Int8ArrayOID, []int64{})
	same(pgtype.Int8ArrayOID, []int32{1, 2})
	same(pgtype.UUIDArrayOID, [][16]byte{{1, 2, 3}, {}})
	same(pgtype.UUIDArrayOID, [][16]byte(nil))
	same(pgtype.UUIDArrayOID, []*[16]byte{{1}, nil})
	same(pgtype.TextArrayOID, []string{"TRD-1", "", "é", `"{},\`})
	same(pgtype.TextArrayOID, []string{})
	text := "some"
	same(pgtype.TextArrayOID, []*string{&text, nil})
	same(pgtype.ByteaArrayOID, [][]byte{{1}, nil})
}
