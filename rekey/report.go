package rekey

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/anteroom-proxy/anteroom/audit"
	"github.com/anteroom-proxy/anteroom/store"
)

// Report is what is left of an operation, for an auditor: ids, counts and times, no secret. Its JSON text is kept as it was
// made; the SHA-256 of that text stands in the audit log.
type Report struct {
	Version int       `json:"v"`
	ID      string    `json:"id"`
	Verb    Verb      `json:"verb"`
	Target  string    `json:"target"`
	Place   string    `json:"place,omitempty"` // which store, when it is not the one of sessions
	Asker   string    `json:"asker,omitempty"`
	Began   time.Time `json:"began"`
	Ended   time.Time `json:"ended"`
	Seconds float64   `json:"seconds"`
	Starts  int       `json:"starts"` // processes that worked at it, one after the other
	Forced  bool      `json:"forced,omitempty"`

	Values   int            `json:"values"`            // in the store, when it began
	Exposed  map[string]int `json:"exposed,omitempty"` // under the old keys then, by purpose
	Before   map[string]int `json:"before,omitempty"`  // values by key, when it began
	After    map[string]int `json:"after,omitempty"`   // values by key, at the last reading
	Left     int            `json:"left"`              // under the old keys, at the last reading
	Aside    *Aside         `json:"aside,omitempty"`   // values that open with no key
	Gone     []string       `json:"gone,omitempty"`    // data keys that are destroyed
	Signing  []string       `json:"signing,omitempty"` // signing keys that were killed
	Keys     []Key          `json:"keys,omitempty"`    // data keys at the end
	AppsKeys []Key          `json:"apps_keys,omitempty"`
	Steps    []Step         `json:"steps"`
	Notes    []string       `json:"notes,omitempty"`
}

// report makes the report once, writes the audit event and ends the operation. After a crash in between the text that was kept
// counts: its hash stands in the log.
func (t *task) report(ctx context.Context) error {
	op := t.now()
	if id := t.o.living(op); id != "" {
		return &stop{notEnded(id)}
	}
	key, report := labelReport+"/"+op.ID, t.o.reportOf(op)
	text, err := t.o.c.Store.Get(ctx, key)
	if errors.Is(err, store.ErrNotFound) || err == nil && !report.same(text) {
		if text, err = report.encode(); err != nil {
			return err
		}
		err = t.o.c.Store.Put(ctx, key, text, time.Time{})
	}
	if err != nil {
		return fmt.Errorf("keeping the report: %w", err)
	}
	sum := sha256.Sum256(text)
	detail := "sha256:" + hex.EncodeToString(sum[:])
	err = t.o.c.Audit.Record(ctx, audit.Event{
		Kind: "admin", Ref: op.ID, Decision: "ended", Reason: "keys-" + string(op.Verb), Route: "keys/report", Rule: op.Target + " report " + detail,
	})
	if err != nil {
		return fmt.Errorf("recording the report: %w", err)
	}
	return t.detail(ctx, true, "%s", detail)
}

func (o *Operator) reportOf(op *Operation) *Report {
	r := &Report{
		Version: journalVersion, ID: op.ID, Verb: op.Verb, Target: op.Target, Place: o.c.Place, Asker: op.Asker, Began: op.Began, Ended: o.c.Now().UTC(),
		Starts: op.Starts, Forced: op.Force, Values: op.Total, Exposed: op.Exposed, Before: op.Before, After: op.After, Aside: op.Aside, Notes: op.Notes,
		Keys: o.c.Own.Keys(),
	}
	r.Seconds = r.Ended.Sub(r.Began).Seconds()
	if o.c.Apps != nil {
		r.AppsKeys = o.c.Apps.Keys()
	}
	for id, n := range op.After {
		if op.stale(id) {
			r.Left += n
		}
	}
	for _, id := range op.IDs {
		if k, found := keyOf(o.c.Own, id); !found || k.State == Destroyed {
			r.Gone = append(r.Gone, id)
		}
	}
	r.Signing = op.Kills
	for _, s := range op.Steps {
		if s.Name != stepReport {
			r.Steps = append(r.Steps, s)
		}
	}
	return r
}

func (r *Report) encode() ([]byte, error) {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("making the report: %w", err)
	}
	return append(text, '\n'), nil
}

// Progress is how far an operation is.
type Progress struct {
	Operation
	Rate  float64 `json:"rate,omitempty"` // values a second; 0 when another node works at it
	Title string  `json:"title"`          // the step, in words
	Step  int     `json:"step"`           // from 1
	Of    int     `json:"of"`
}

// Current is the operation under way or the last one; nil when there never was one.
func (o *Operator) Current(ctx context.Context) (*Progress, error) {
	p := new(Progress)
	if t := o.mine.Load(); t != nil {
		t.mu.Lock()
		p.Operation, p.Rate = *t.op.clone(), t.pace.rate()
		t.mu.Unlock()
	} else {
		op, _, err := o.load(ctx)
		if err != nil || op == nil {
			return nil, err
		}
		p.Operation = *op
	}
	o.believed(&p.Operation)
	steps := plans[p.Verb]
	p.Title, p.Step, p.Of = titles[p.Phase], slices.Index(steps, p.Phase)+1, len(steps)
	p.Cursor, p.Owner = "", "" // nobody's business
	return p, nil
}

// Kept names a report.
type Kept struct {
	ID     string    `json:"id"`
	Verb   Verb      `json:"verb"`
	Target string    `json:"target"`
	Ended  time.Time `json:"ended"`
}

// Reports lists the reports, the latest last.
func (o *Operator) Reports(ctx context.Context) ([]Kept, error) {
	var items []store.Item
	for cursor := ""; ; {
		page, next, err := o.c.Store.Scan(o.pass(ctx, &Operation{}, new(junk)), labelReport+"/", cursor, pageSize)
		if err != nil {
			return nil, fmt.Errorf("listing reports: %w", err)
		}
		items = append(items, page...)
		if cursor = next; next == "" {
			break
		}
	}
	slices.SortFunc(items, func(a, b store.Item) int { return strings.Compare(a.Key, b.Key) })
	items = slices.CompactFunc(items, func(a, b store.Item) bool { return a.Key == b.Key }) // a walk may see one twice
	list := []Kept{}
	for _, item := range items {
		var r Report
		if err := json.Unmarshal(item.Value, &r); err != nil {
			continue // it is shown by its id, as it is
		}
		list = append(list, Kept{strings.TrimPrefix(item.Key, labelReport+"/"), r.Verb, r.Target, r.Ended})
	}
	slices.SortFunc(list, func(a, b Kept) int { return a.Ended.Compare(b.Ended) })
	return list, nil
}

// Report returns the text of a report, byte by byte as it was made; "" means the latest one.
func (o *Operator) Report(ctx context.Context, id string) ([]byte, error) {
	if id == "" {
		list, err := o.Reports(ctx)
		if err != nil {
			return nil, err
		}
		if len(list) == 0 {
			return nil, fmt.Errorf("%w: there is no report yet", ErrTarget)
		}
		id = list[len(list)-1].ID
	}
	if !isRef(id) {
		return nil, fmt.Errorf("%w: a report is named by ten letters and digits", ErrTarget)
	}
	text, err := o.c.Store.Get(ctx, labelReport+"/"+id)
	if errors.Is(err, store.ErrNotFound) {
		return nil, fmt.Errorf("%w: there is no report %s", ErrTarget, id)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the report: %w", err)
	}
	return text, nil
}

// Status is what is sealed by what.
type Status struct {
	Own      []Key          `json:"own"`
	Apps     []Key          `json:"apps,omitempty"`
	Records  map[string]int `json:"records"` // by key id
	Counted  int            `json:"counted"` // values that were looked at
	Complete bool           `json:"complete"`
}

// Status lists the data keys and counts what each has sealed, until ctx ends: then Complete is false.
func (o *Operator) Status(ctx context.Context) (*Status, error) {
	s := &Status{Own: o.c.Own.Keys(), Records: map[string]int{}}
	if o.c.Apps != nil {
		s.Apps = o.c.Apps.Keys()
	}
	c, err := o.take(ctx, &Operation{}, func(int) error { return ctx.Err() }, new(junk))
	if err != nil && ctx.Err() == nil {
		return nil, fmt.Errorf("counting: %w", err)
	}
	s.Records, s.Counted, s.Complete = c.byKey, c.looked, c.complete
	return s, nil
}
