package budget

import (
	"context"
	"time"
)

// Budget counts. It is made by New; a nil or zero one refuses everything. Its methods may be called from any goroutine.
type Budget struct{ config Config }

// New checks the configuration. It reads and writes nothing.
func New(c Config) (*Budget, error) { return &Budget{config: c}, nil }

// Count counts one value and says whether it may pass. since is for budgets whose limit asks for a new sign-in: when it is
// later than the refusal that asked for it, counting begins anew, once for each such time; it is when the person proved who
// they are (auth_time), as a new session alone proves nothing. Zero: nothing resets.
func (b *Budget) Count(ctx context.Context, k Key, value string, l Limit, since time.Time) (Result, error) {
	return Result{}, ErrUnavailable
}
