// Package kafka connects Trade Store to its log: the producer and the consumer, the format of a record, the partition
// of a trade and the checks of the topic. There is no interface around kgo.Client; tests run against an embedded
// broker.
package kafka
