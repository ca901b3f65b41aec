package worker

import (
	"errors"
	"slices"

	"tradestore/trade"
)

// notProjected returns which of the outcomes an error of Project is about.
func notProjected(err error, outcomes []trade.Decision) *trade.NotProjected {
	var not *trade.NotProjected
	switch {
	case err == nil:
		return &trade.NotProjected{}
	case errors.As(err, &not):
		return not
	}
	return &trade.NotProjected{Left: outcomes, Err: err}
}

// logPart is one partition of one generation.
type logPart struct{ generation, partition int32 }

func logPartOf(o *trade.Decision) logPart { return logPart{o.Generation, o.Partition} }

// interleave returns the outcomes with the first one of each partition before all second ones, and so on: what a slow
// request store takes in time has something of every partition.
func interleave(outcomes []trade.Decision) []trade.Decision {
	var ranks [][]trade.Decision
	next := map[logPart]int{}
	for i := range outcomes {
		part := logPartOf(&outcomes[i])
		if next[part] == len(ranks) {
			ranks = append(ranks, nil)
		}
		ranks[next[part]] = append(ranks[next[part]], outcomes[i])
		next[part]++
	}
	return slices.Concat(ranks...)
}

// upToFirst returns the outcomes that come, in their partition, before the first one of left, and the others.
func upToFirst(outcomes, left []trade.Decision) (before, rest []trade.Decision) {
	if len(left) == 0 {
		return outcomes, nil
	}
	first := map[logPart]int64{}
	for i := range left {
		part := logPartOf(&left[i])
		if at, ok := first[part]; !ok || left[i].Offset < at {
			first[part] = left[i].Offset
		}
	}
	for i := range outcomes {
		if at, ok := first[logPartOf(&outcomes[i])]; ok && outcomes[i].Offset >= at {
			rest = append(rest, outcomes[i])
		} else {
			before = append(before, outcomes[i])
		}
	}
	return before, rest
}

// without returns the outcomes that are not among others.
func without(outcomes, others []trade.Decision) []trade.Decision {
	if len(others) == 0 {
		return outcomes
	}
	ids := requestsOf(others)
	return slices.DeleteFunc(slices.Clone(outcomes), func(o trade.Decision) bool { return ids[o.ID] })
}

// requestsOf returns the requests that the outcomes are about.
func requestsOf(outcomes []trade.Decision) map[trade.RequestID]bool {
	ids := make(map[trade.RequestID]bool, len(outcomes))
	for i := range outcomes {
		ids[outcomes[i].ID] = true
	}
	return ids
}
