package kafka

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
	"pgregory.net/rapid"
)

// The vectors are those of Apache Kafka's own UtilsTest.testMurmur2.
func TestMurmur2IsTheOneOfTheJavaClient(t *testing.T) {
	t.Parallel()
	f := func(in string, want int32) {
		t.Helper()
		require.Equal(t, want, int32(murmur2(in)), in)
	}
	f("21", -973932308)
	f("foobar", -790332482)
	f("a-little-bit-long-string", -985981536)
	f("a-little-bit-longer-string", -1486304829)
	f("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971)
	f("abc", 479470107)
}

func TestPartitionEqualsTheStockPartitioner(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		id := rapid.StringN(1, 64, 64).Draw(t, "trade_id")
		n := rapid.IntRange(1, 1000).Draw(t, "partitions")
		stock := kgo.StickyKeyPartitioner(nil).ForTopic("trades")
		assert.Equal(t, stock.Partition(&kgo.Record{Key: []byte(id)}, n), int(Partition(id, n)))
	})
}

func TestPartitionAllocatesNothing(t *testing.T) {
	require.Zero(t, testing.AllocsPerRun(100, func() { _ = Partition("T-000000001", 12) }))
}
