package postgres

import (
	"encoding/binary"

	"github.com/jackc/pgx/v5/pgtype"
)

// arrayCodec encodes slices of T in one loop. Every batch sends its columns as arrays, and the general encoder of pgx
// boxes each element and makes three interface calls for it. All other values go to the general encoder.
type arrayCodec[T any] struct {
	*pgtype.ArrayCodec
	element func(b []byte, v T) []byte
}

// useArrays makes a connection encode array parameters with arrayCodec.
func useArrays(types *pgtype.Map) {
	useArray(types, pgtype.Int4ArrayOID, appendInt4)
	useArray(types, pgtype.Int8ArrayOID, appendInt8)
	useArray(types, pgtype.UUIDArrayOID, appendUUID)
	useArray(types, pgtype.TextArrayOID, appendText)
}

func useArray[T any](types *pgtype.Map, oid uint32, element func(b []byte, v T) []byte) {
	if known, ok := types.TypeForOID(oid); ok {
		if general, ok := known.Codec.(*pgtype.ArrayCodec); ok {
			types.RegisterType(&pgtype.Type{Name: known.Name, OID: oid, Codec: arrayCodec[T]{general, element}})
		}
	}
}

// PlanEncode implements pgtype.Codec.
func (c arrayCodec[T]) PlanEncode(types *pgtype.Map, oid uint32, format int16, value any) pgtype.EncodePlan {
	if _, ok := value.([]T); ok && format == pgtype.BinaryFormatCode {
		return arrayPlan[T](c)
	}
	return c.ArrayCodec.PlanEncode(types, oid, format, value)
}

type arrayPlan[T any] arrayCodec[T]

// Encode implements pgtype.EncodePlan. A nil slice is NULL.
func (p arrayPlan[T]) Encode(value any, b []byte) ([]byte, error) {
	v := value.([]T) // PlanEncode has checked the type
	if v == nil {
		return nil, nil
	}
	return appendArray(b, p.ElementType.OID, v, p.element), nil
}

// appendArray appends the format that array_recv of PostgreSQL reads (src/backend/utils/adt/arrayfuncs.c): the number
// of dimensions, whether there are NULLs, the element type, the length and lower bound of the one dimension, and the
// elements, each after its length.
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

// The functions below write the format of a field in COPY and of an element in an array: a length and so many bytes.

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
