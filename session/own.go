package session

import (
	"context"
	"sync"
)

// maxOwn bounds the own entries that were not read back yet. A follower reads them
// within a second; more than this wait only while it fails.
const maxOwn = 1 << 14

// own remembers the entries that this node appended until it reads them in the
// feed: a store that fails over may lose what it had acknowledged.
type own struct {
	mu      sync.Mutex
	turns   uint64 // polls begun
	waiting map[string]*ownEntry
}

type ownEntry struct {
	debts        []debt
	acknowledged bool
	turn         uint64 // the poll that had begun last when it was acknowledged
}

// turn begins a poll.
func (o *own) turn() uint64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.turns++
	return o.turns
}

// expect registers an entry before it is appended: the follower may read it before
// the store's answer arrives.
func (o *own) expect(value []byte, debts []debt) *ownEntry {
	o.mu.Lock()
	defer o.mu.Unlock()
	e := &ownEntry{debts: debts}
	if len(o.waiting) < maxOwn {
		if o.waiting == nil {
			o.waiting = make(map[string]*ownEntry)
		}
		o.waiting[string(value)] = e
	}
	return e
}

// answered notes whether the store acknowledged the entry.
func (o *own) answered(value []byte, e *ownEntry, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if e.acknowledged, e.turn = err == nil, o.turns; err != nil && o.waiting[string(value)] == e {
		delete(o.waiting, string(value))
	}
}

// seen forgets what was read.
func (o *own) seen(value []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.waiting, string(value))
}

// lost returns and forgets what a poll that is complete, and began after the
// acknowledgement, did not show.
func (o *own) lost(turn uint64) (lost []debt) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for value, e := range o.waiting {
		if e.acknowledged && e.turn < turn {
			lost = append(lost, e.debts...)
			delete(o.waiting, value)
		}
	}
	return lost
}

// append makes revocations durable, in one entry.
func (m *Manager) append(ctx context.Context, all ...revocation) error {
	value, until, err := encode(all)
	if err != nil {
		return err
	}
	debts := make([]debt, len(all))
	for i, r := range all {
		debts[i].kind, debts[i].id = r.name()
	}
	e := m.own.expect(value, debts)
	_, err = m.store.Append(ctx, value, until)
	m.own.answered(value, e, err)
	return err
}
