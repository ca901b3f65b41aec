package worker

import (
	"context"
	"errors"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// commitOffsets commits positions to the group when asked, as a hint of the lag for tools: nobody starts from them.
func (l *lane) commitOffsets(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.commitRequests:
		}
		l.commitOnce(ctx)
		if !wait(ctx, l.cfg.CommitInterval) {
			return
		}
	}
}

func (l *lane) commitOnce(ctx context.Context) {
	offsets := map[int32]kgo.EpochOffset{}
	for partition, p := range l.assigned.states() {
		offsets[partition] = kgo.EpochOffset{Epoch: p.epoch, Offset: p.next}
	}
	if len(offsets) == 0 {
		return
	}
	if err := commitSync(ctx, l.client, l.topic.name, offsets); err != nil && ctx.Err() == nil {
		l.observe.metrics.commitErrors.Inc()
		l.log.Debug().Err(err).Msg("cannot commit the group offset, which is only a hint")
	}
}

// leave commits the positions, leaves the group and closes the client.
func (l *lane) leave(ctx context.Context) {
	if l.client == nil {
		return
	}
	l.client.AllowRebalance()
	l.commitOnce(ctx)
	if err := l.client.LeaveGroupContext(ctx); err != nil {
		l.log.Warn().Err(err).Msg("cannot leave the consumer group: the others take over after the session timeout")
		l.closeClient() // else Close waits for a rebalance under way, whose members may be dead
	}
	l.client.Close()
	l.closeClient()
	l.client = nil
}

// commitSync commits offsets to the group and returns the first error of the request or of a partition.
func commitSync(ctx context.Context, client *kgo.Client, topic string, offsets map[int32]kgo.EpochOffset) error {
	var failed error
	client.CommitOffsetsSync(ctx, map[string]map[int32]kgo.EpochOffset{topic: offsets},
		func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, resp *kmsg.OffsetCommitResponse, err error) {
			failed = err
			for i := 0; failed == nil && resp != nil && i < len(resp.Topics); i++ {
				for _, p := range resp.Topics[i].Partitions {
					failed = errors.Join(failed, kerr.ErrorForCode(p.ErrorCode))
				}
			}
		})
	return failed
}
