package redis

import (
	"context"
	"time"
)

// OpenPatient is Open for tests of what has nothing to do with time: a machine that is busy with
// other things answers late, and that is not what they look for.
func OpenPatient(ctx context.Context, cfg Config) (*Store, error) {
	return openWithin(ctx, cfg, times{io: 25 * time.Second, call: 30 * time.Second, ack: 10 * time.Second})
}
