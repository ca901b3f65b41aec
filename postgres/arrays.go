package postgres

import (
	"encoding/binary"

	"github.com/jackc/pgx/v5/pgtype"
)

// arrayCodec encodes the slices that the statements of every batch carry, one column each, in a loop over the slice. The
// general encoder boxes each element and calls through three interfaces for it. All else is left to it.
type arrayCodec struct {
	*pgtype.ArrayCodec
}

// useArrays makes a connection encode its array parameters with arrayCodec.
func useArrays(types *pgtype.Map) {
	for _, oid := range []uint32{pgtype.Int4ArrayOID, pgtype.Int8ArrayOID, pgtype.UUIDArrayOID, pgtype.TextArrayOID} {
		if known, ok := types.TypeForOID(oid); ok {
			if general, ok := known.Codec.(*pgtype.ArrayCodec); ok {
				types.RegisterType(&pgtype.Type{Name: known.Name, OID: oid, Codec: arrayCodec{general}})
			}
		}
	}
}

// PlanEncode implements pgtype.Codec.
func (c arrayCodec) PlanEncode(types *pgtype.Map, oid uint32, format int16, value any) pgtype.EncodePlan {
	if format == pgtype.BinaryFormatCode {
		element := c.ElementType.OID
		switch value.(type) {
		case []int32:
			if element == pgtype.Int4OID {
				return plan[int32](func(b []byte, v []int32) []byte { return appendArray(b, element, v, appendInt4) })
			}
		case []int64:
			if element == pgtype.Int8OID {
				return plan[int64](func(b []byte, v []int64) []byte { return appendArray(b, element, v, appendInt8) })
			}
		case [][16]byte:
			if element == pgtype.UUIDOID {
				return plan[[16]byte](func(b []byte, v [][16]byte) []byte { return appendArray(b, element, v, appendUUID) })
			}
		case []string:
			if element == pgtype.TextOID {
				return plan[string](func(b []byte, v []string) []byte { return appendArray(b, element, v, appendText) })
			}
		}
	}
	return c.ArrayCodec.PlanEncode(types, oid, format, value)
}

// plan is an encoding of slices of one type.
type plan[T any] func(b []byte, v []T) []byte

// Encode implements pgtype.EncodePlan; a nil slice is NULL.
func (p plan[T]) Encode(value any, b []byte) ([]byte, error) {
	v := value.([]T) // which PlanEncode saw
	if v == nil {
		return nil, nil
	}
	return p(b, v), nil
}

// appendArray appends what array_recv of PostgreSQL reads (src/backend/utils/adt/arrayfuncs.c): the number of dimensions,
// whether there are NULLs, the type of the elements, for the one dimension its length and lower bound, and the elements,
// each with its length before it.
func appendArray[T any](b []byte, element uint32, v []T, each func([]byte, T) []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, 1)
	b = binary.BigEndian.AppendUint32(b, 0)
	b = binary.BigEndian.AppendUint32(b, element)
	b = binary.BigEndian.AppendUint32(b, uint32(len(v)))
	b = binary.BigEndian.AppendUint32(b, 1)
	for _, e := range v {
		b = each(b, e)
	}
	return b
}

// The fields below have the same form in COPY and in arrays: a length and so many bytes.

func appendInt4(b []byte, v int32) []byte {
	return binary.BigEndian.AppendUint64(b, 4<<32|uint64(uint32(v)))
}

func appendInt8(b []byte, v int64) []byte {
	b = binary.BigEndian.AppendUint32(b, 8)
	return binary.BigEndian.AppendUint64(b, uint64(v))
}

func appendUUID(b []byte, v [16]byte) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(v)))
	return append(b, v[:]...)
}

func appendText(b []byte, v string) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(v)))
	return append(b, v...)
}
