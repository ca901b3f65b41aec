package app

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"tradestore/postgres"
	"tradestore/trade"
	"tradestore/worker"
)

// Names of the settings on which every process must agree (rule T12). The database holds them, and the checks of each
// role compare them. The number of partitions and the topic are compared with the positions (rules T1, T2).
const (
	acceptDeadline   = "accept-deadline"
	deliveryTimeout  = "delivery-timeout"
	orphanAfter      = "orphan-after"
	requestStoreKind = "request-store"
	dynamoDBTable    = "dynamodb-table"
	outcomeRetention = "outcome-retention"
)

// atOnce are the settings that have no time with two values: requests in the one store would get no outcome from
// workers that use the other one.
var atOnce = []string{requestStoreKind, dynamoDBTable}

func (f PromiseFlags) promises() []postgres.Promise {
	return []postgres.Promise{
		{Name: acceptDeadline, Value: f.AcceptDeadline.String()},
		{Name: deliveryTimeout, Value: f.DeliveryTimeout.String()},
		{Name: orphanAfter, Value: f.OrphanAfter.String()},
	}
}

func (f RequestStoreFlags) promises() []postgres.Promise {
	list := []postgres.Promise{{Name: requestStoreKind, Value: f.Kind}}
	if f.Kind == onDynamoDB {
		list = append(list, postgres.Promise{Name: dynamoDBTable, Value: f.Table})
	}
	return list
}

// promises returns those that both roles have.
func (f RoleFlags) promises() []postgres.Promise {
	return slices.Concat(f.Promise.promises(), f.RequestStore.promises())
}

// allPromises returns all of them.
func allPromises(f PromiseFlags, store RequestStoreFlags, outcomes worker.OutcomeFlags) []postgres.Promise {
	return append(slices.Concat(f.promises(), store.promises()),
		postgres.Promise{Name: outcomeRetention, Value: outcomes.OutcomeRetention.String()})
}

// withSet returns the settings with the one that --set changes. Errors: it names none, or its value can't be read.
func (c MigrateConfig) withSet() (changed MigrateConfig, name string, err error) {
	if c.Set == "" {
		return c, "", nil
	}
	name, value, found := strings.Cut(c.Set, "=")
	if !found {
		return c, "", fmt.Errorf("--set: %q is not NAME=VALUE", c.Set)
	}
	duration := func(to *time.Duration) {
		var given time.Duration
		if given, err = time.ParseDuration(value); err == nil {
			*to = given
		}
	}
	switch name {
	case acceptDeadline:
		duration(&c.Promise.AcceptDeadline)
	case deliveryTimeout:
		duration(&c.Promise.DeliveryTimeout)
	case orphanAfter:
		duration(&c.Promise.OrphanAfter)
	case outcomeRetention:
		duration(&c.OutcomeRetention)
	case requestStoreKind:
		c.RequestStore.Kind = value
	case dynamoDBTable:
		c.RequestStore.Table = value
	case "partitions":
		return c, "", fmt.Errorf("--set: the partitions of a topic never change; --new-generation moves to another topic")
	default:
		return c, "", fmt.Errorf("--set: %q is not a setting that every process must agree on: %s, %s, %s, %s, %s or %s",
			name, acceptDeadline, deliveryTimeout, orphanAfter, outcomeRetention, requestStoreKind, dynamoDBTable)
	}
	if err != nil {
		return c, "", fmt.Errorf("--set: %q is not a duration like 90s", value)
	}
	return c, name, nil
}

// promiseKeeper brings the promises in the database up to date.
type promiseKeeper struct {
	cfg    MigrateConfig
	log    zerolog.Logger
	topics *postgres.Topics // the lock that one migrate at a time holds
	stored map[string]postgres.Promise
}

// keep stores what is not stored yet, makes the change that --set or --retire asks for, and compares the rest with the
// settings of this command. It returns what is stored then.
func (k *promiseKeeper) keep(ctx context.Context, set string) (map[string]postgres.Promise, error) {
	var err error
	if k.stored, err = k.topics.Promises(ctx); err != nil {
		return nil, err
	}
	for _, own := range allPromises(k.cfg.Promise, k.cfg.RequestStore, k.cfg.OutcomeFlags) {
		next, err := k.next(own, set)
		if err != nil {
			return nil, err
		}
		if next == k.stored[own.Name] {
			continue
		}
		if err := k.checkCombinations(next); err != nil && !k.cfg.Adopt {
			return nil, err
		}
		if err := k.topics.Promise(ctx, next); err != nil {
			return nil, err
		}
		k.stored[own.Name] = next
		k.log.Info().Str("setting", "--"+own.Name).Stringer("accepted", next).
			Msg("stored a setting that every process must have")
	}
	if _, known := k.stored[k.cfg.Retire]; k.cfg.Retire != "" && !known {
		return nil, fmt.Errorf("--retire: %q is not a setting that is stored", k.cfg.Retire)
	}
	return k.stored, nil
}

// next returns what is to be stored for a setting of this command.
func (k *promiseKeeper) next(own postgres.Promise, set string) (postgres.Promise, error) {
	stored, known := k.stored[own.Name]
	switch {
	case !known, k.cfg.Adopt:
		return own, nil
	case own.Name == set:
		return change(stored, own.Value)
	case own.Name == k.cfg.Retire && own.Value == stored.Old:
		return stored, fmt.Errorf("--retire: this command itself has the old value %s of --%s: "+
			"give it and every process %s first", stored.Old, own.Name, stored.Value)
	case !stored.Allows(own.Value):
		return stored, trade.Classed(trade.Broken, "--%s: expected %s, as every process has it, seen: %s; "+
			"'tradestore migrate --set %[1]s=%[3]s' changes it", own.Name, stored, own.Value)
	case own.Name == k.cfg.Retire:
		stored.Old = ""
	}
	return stored, nil
}

// change returns a promise with a new value, which may be the old one again.
func change(p postgres.Promise, value string) (postgres.Promise, error) {
	switch {
	case value == p.Value:
		return p, nil
	case p.Old != "" && value != p.Old:
		return p, fmt.Errorf("--set: --%s changes from %s to %s already: "+
			"'tradestore migrate --retire %[1]s' ends that first, when every process has %[3]s", p.Name, p.Old, p.Value)
	case slices.Contains(atOnce, p.Name):
		return postgres.Promise{Name: p.Name, Value: value}, nil
	}
	return postgres.Promise{Name: p.Name, Value: value, Old: p.Value}, nil
}

// checkCombinations compares every combination of old and new values with rule R2: while a change is under way, a
// worker with the one meets a server with the other.
func (k *promiseKeeper) checkCombinations(next postgres.Promise) error {
	values := func(name string, fallback time.Duration) (least, most time.Duration) {
		p := k.stored[name]
		if next.Name == name {
			p = next
		}
		least, most = fallback, fallback // of a setting that is not stored yet
		if value, err := time.ParseDuration(p.Value); err == nil {
			least, most = value, value
		}
		if old, err := time.ParseDuration(p.Old); err == nil {
			least, most = min(least, old), max(most, old)
		}
		return least, most
	}
	own := k.cfg.Promise
	after, _ := values(orphanAfter, own.OrphanAfter)
	_, deadline := values(acceptDeadline, own.AcceptDeadline)
	_, timeout := values(deliveryTimeout, own.DeliveryTimeout)
	if err := worker.CheckOrphanAfter(after, deadline, timeout); err != nil {
		return fmt.Errorf("cannot have %s %s: old and new values must go together until the old ones are retired: %w",
			"--"+next.Name, next.Value, err)
	}
	return nil
}

// longest returns the longer of the values that a process may have.
func longest(p postgres.Promise) time.Duration {
	var most time.Duration
	for _, text := range []string{p.Value, p.Old} {
		if value, err := time.ParseDuration(text); err == nil {
			most = max(most, value)
		}
	}
	return most
}
