package kafka

// Partition returns the partition of a trade in a topic with so many partitions, at least 1. It is murmur2 of the id,
// as the default partitioner of the Java client computes it, so every Kafka tool agrees (rule C5).
func Partition(tradeID string, partitions int) int32 {
	return int32(murmur2(tradeID)&0x7fffffff) % int32(partitions)
}

// murmur2 is the hash of Kafka's default partitioner: 32 bits, with the seed that Kafka fixed.
func murmur2(s string) uint32 {
	const (
		seed  uint32 = 0x9747b28c
		m     uint32 = 0x5bd1e995
		shift        = 24
	)
	h := seed ^ uint32(len(s))
	for ; len(s) >= 4; s = s[4:] {
		k := uint32(s[0]) | uint32(s[1])<<8 | uint32(s[2])<<16 | uint32(s[3])<<24
		k *= m
		k ^= k >> shift
		h = h*m ^ k*m
	}
	switch len(s) {
	case 3:
		h ^= uint32(s[2]) << 16
		fallthrough
	case 2:
		h ^= uint32(s[1]) << 8
		fallthrough
	case 1:
		h = (h ^ uint32(s[0])) * m
	}
	h = (h ^ h>>13) * m
	return h ^ h>>15
}
