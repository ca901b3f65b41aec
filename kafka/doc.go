// Package kafka connects Trade Store to its log: the two kinds of client, the shape of a record, the partition of a trade
// and the checks of the topic. There is no interface around kgo.Client; tests run against an embedded broker.
package kafka
