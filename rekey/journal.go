package rekey

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/anteroom-proxy/anteroom/store"
)

// errLost says that another node works at the operation now.
var errLost = errors.New("another node has taken the operation over")

// load reads the journal; nil when there never was an operation.
func (o *Operator) load(ctx context.Context) (*Operation, []byte, error) {
	raw, err := o.c.Store.Get(ctx, labelJournal)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("reading the journal of key operations: %w", err)
	}
	op, err := decodeOperation(raw)
	return op, raw, err
}

// swap writes op in the place of raw. A write whose outcome is not known is looked after: what stands there decides.
func (o *Operator) swap(ctx context.Context, raw []byte, op *Operation) ([]byte, error) {
	next, err := op.encode()
	if err != nil {
		return nil, err
	}
	err = o.c.Store.CompareAndSwap(ctx, labelJournal, raw, next, time.Time{})
	if err == nil {
		return next, nil
	}
	if present, getErr := o.c.Store.Get(ctx, labelJournal); getErr == nil {
		switch {
		case bytes.Equal(present, next):
			return next, nil
		case !bytes.Equal(present, raw):
			return nil, errLost
		}
	}
	return nil, fmt.Errorf("writing the journal of key operations: %w", err)
}

// task is an operation at which this process works.
type task struct {
	o      *Operator
	cancel context.CancelCauseFunc
	junk   junk // names of what does not open

	mu    sync.Mutex // guards what follows
	op    *Operation
	raw   []byte
	saved time.Time
	pace  pace
}

const saveEvery = time.Second / 2

// change alters the record. It is written at once when now is set, and otherwise when the last time is a while ago: what is
// lost then is done again.
func (t *task) change(ctx context.Context, now bool, alter func(*Operation)) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	alter(t.op)
	at := t.o.c.Now()
	t.pace.note(at, t.op)
	if !now && at.Sub(t.saved) < saveEvery {
		return nil
	}
	raw, err := t.o.swap(ctx, t.raw, t.op)
	if err == nil {
		t.raw, t.saved = raw, at
	}
	if errors.Is(err, errLost) {
		t.cancel(errLost)
	}
	return err
}

// now is a copy of the record.
func (t *task) now() *Operation {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.op.clone()
}

// beat shows a sign of life while a step takes long.
func (t *task) beat(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.o.c.After(beatEvery):
			_ = t.change(ctx, true, func(op *Operation) { op.Beat++ }) // another node takes over, or the next beat comes
		}
	}
}

// pace is how fast a phase goes.
type pace struct {
	phase string
	pass  int
	began time.Time
	from  int
	last  time.Time
	seen  int
}

func (p *pace) note(at time.Time, op *Operation) {
	if p.phase != op.Phase || p.pass != op.Pass || op.Seen < p.from {
		*p = pace{phase: op.Phase, pass: op.Pass, began: at, from: op.Seen}
	}
	p.last, p.seen = at, op.Seen
}

// rate is values a second.
func (p *pace) rate() float64 {
	if seconds := p.last.Sub(p.began).Seconds(); seconds > 0 {
		return float64(p.seen-p.from) / seconds
	}
	return 0
}
