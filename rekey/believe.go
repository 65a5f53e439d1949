package rekey

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
)

// The journal lies in the store, and who has a stolen key and can write there writes in it what he likes until that key is
// condemned. So the end of an operation is believed only when the keys themselves say so.

// living names a key whose end the operation is for, and that lives; "" when there is none, as far as this process has seen.
func (o *Operator) living(op *Operation) string {
	alive := func(keys DataKeys, ids []string, ends ...string) string {
		for _, id := range ids {
			if k, found := keyOf(keys, id); found && !slices.Contains(ends, k.State) {
				return id
			}
		}
		return ""
	}
	ends := []string{Destroyed}
	if op.spares() {
		ends = append(ends, Condemned)
	}
	switch op.Verb {
	case CompromisedData, DestroyData:
		return alive(o.c.Own, append([]string{op.Target}, op.IDs...), ends...)
	case CompromisedApps:
		return alive(o.c.Apps, append([]string{op.Target}, op.Apps...), Condemned, Destroyed)
	case CompromisedMaster:
		if o.c.Master != nil && o.c.Master.ID() == op.Target {
			return op.Target
		}
		if id := alive(o.c.Own, op.IDs, ends...); id != "" {
			return id
		}
		return alive(o.c.Apps, op.Apps, Condemned, Destroyed)
	}
	return ""
}

func notEnded(id string) string {
	return fmt.Sprintf("the journal says that %s has ended, and it has not: somebody who can write to the store may have changed the journal; repeat the command", id)
}

// believed makes of an operation that is done one that is not, when its key lives. A node that hears late of the end sees that
// for a moment, too.
func (o *Operator) believed(op *Operation) {
	if op.State != StateDone {
		return
	}
	if id := o.living(op); id != "" {
		op.State, op.Problem = StateRunning, notEnded(id)
	}
}

// same says whether a text is this report, made earlier by a process that died before it could end the operation. One that says
// something else was put there by somebody.
func (r *Report) same(text []byte) bool {
	was := new(Report)
	if json.Unmarshal(text, was) != nil || was.Ended.Before(r.Began) || was.Ended.After(r.Ended) || was.Starts > r.Starts {
		return false
	}
	then := *r
	then.Ended, then.Starts, then.Seconds = was.Ended, was.Starts, was.Ended.Sub(r.Began).Seconds()
	mine, err := then.encode()
	return err == nil && bytes.Equal(mine, text)
}
