package envelope

import (
	"context"
	"fmt"
)

// Adopt makes m the master of a running envelope: it wraps every data key that is made from
// now on, and the present master opens what it wrapped, as a former one, until Migrate. On
// an error nothing has changed. The same master again is no error.
//
// It is for a master that this process replaces itself. Every other process that works with
// the ring has to know m before Migrate is called.
func (e *Envelope) Adopt(ctx context.Context, m Master) error {
	was := e.core()
	if was == nil {
		return errZero
	}
	if was.cfg.Master.ID() == m.ID() {
		return nil
	}
	cfg := was.cfg
	cfg.Master, cfg.Former = m, append([]Master{was.cfg.Master}, was.cfg.Former...)
	next, err := newCore(cfg)
	if err != nil {
		return fmt.Errorf("envelope %q: taking another master: %w", cfg.Name, err)
	}
	for id := range next.found {
		if was.believes(id) {
			next.known.Store(id, nil)
		}
	}
	next.view.Store(was.view.Load()) // what this process has seen still counts: no older ring, and no second one
	if err := (&Envelope{inner: func() *core { return next }}).Start(ctx); err != nil {
		return fmt.Errorf("taking another master: %w", err)
	}
	e.swap(next)
	return nil
}
