package rekey

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// stop is a failure that trying again does not mend: a person has to decide.
type stop struct{ text string }

func (s *stop) Error() string { return s.text }

// work goes on with an operation until it is done, stopped or lost to another node.
func (o *Operator) work(ctx context.Context, op *Operation, raw []byte) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	t := &task{o: o, op: op, raw: raw, cancel: cancel}
	if err := t.change(ctx, true, func(op *Operation) { op.Owner, op.Starts, op.Problem = o.c.Node, op.Starts+1, "" }); err != nil {
		return err
	}
	o.mine.Store(t)
	defer o.mine.Store(nil)
	beats := make(chan struct{})
	go func() { // ends with ctx
		defer close(beats)
		t.beat(ctx)
	}()
	err := t.run(ctx)
	var stopped *stop
	switch {
	case err == nil || errors.Is(context.Cause(ctx), errLost):
		err = nil
	case errors.As(err, &stopped):
		o.c.Logger.Error("an operation on keys needs a decision", "operation", op.ID, "problem", stopped.text)
		err = t.change(ctx, true, func(op *Operation) { op.State, op.Problem = StateStopped, stopped.text })
	default:
		text := err.Error()
		_ = t.change(ctx, true, func(op *Operation) { op.Problem = text }) // it is told in the log as well
	}
	cancel(nil)
	<-beats
	return err
}

// run does the steps from the present one on.
func (t *task) run(ctx context.Context) error {
	for {
		op := t.now()
		if op.State != StateRunning {
			return nil
		}
		steps := plans[op.Verb]
		i := slices.Index(steps, op.Phase)
		if err := t.begin(ctx); err != nil {
			return err
		}
		if err := t.do(ctx, op.Phase); err != nil {
			return fmt.Errorf("%s: %w", op.Phase, err)
		}
		if err := t.end(ctx, steps, i); err != nil {
			return err
		}
	}
}

// begin notes when the step began: once, also when several processes worked at it.
func (t *task) begin(ctx context.Context) error {
	return t.change(ctx, false, func(op *Operation) {
		if n := len(op.Steps); n == 0 || op.Steps[n-1].Name != op.Phase || !op.Steps[n-1].Ended.IsZero() {
			op.Steps = append(op.Steps, Step{Name: op.Phase, Began: t.o.c.Now().UTC()})
		}
	})
}

// end notes what the step has done and goes over to the next one.
func (t *task) end(ctx context.Context, steps []string, i int) error {
	return t.change(ctx, true, func(op *Operation) {
		now := t.o.c.Now().UTC()
		step := &op.Steps[len(op.Steps)-1]
		step.Ended = now
		if op.Changed > 0 {
			step.Count = op.Changed
		}
		if step.Count > 0 && step.Detail == "" && op.Starts > 1 && steps[i] != stepMigrate {
			step.Detail = "at least so many: what was sealed anew in the last moment before a process ended is not counted again; the last reading tells"
		}
		op.Cursor, op.Seen, op.Changed, op.Pass, op.Problem = "", 0, 0, 0, ""
		if i+1 < len(steps) {
			op.Phase = steps[i+1]
			return
		}
		op.State, op.Ended = StateDone, now
	})
}

// detail says in the step's line what it did.
func (t *task) detail(ctx context.Context, now bool, format string, args ...any) error {
	return t.change(ctx, now, func(op *Operation) { op.Steps[len(op.Steps)-1].Detail = fmt.Sprintf(format, args...) })
}

// pause waits, with signs of life from beat.
func (t *task) pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.o.c.After(d):
		return nil
	}
}
