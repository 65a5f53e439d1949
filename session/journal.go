package session

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
)

// maxOwed bounds what waits for the store. A provider that ends more sessions than that
// while the store is away hears, as for each of them, that it failed.
const maxOwed = 4096

// Journal keeps, over restarts and outside of the store, the revocations that the store
// did not take: of users, and of a provider's sessions. A provider says once that
// somebody is signed out. What is saved names accounts and sessions by hashes only.
type Journal interface {
	// Load returns what was saved last, nil when that was nothing.
	Load() ([]byte, error)
	// Save replaces that, durably; of nothing when it is empty.
	Save([]byte) error
}

// owed is a revocation that the store is to be told of. List is the account's list of
// sign-ons: of a provider's session whose subject was named, or of an account.
type owed struct {
	Entry revocation `json:"entry"`
	List  string     `json:"list,omitempty"`
}

// arrears are what the store did not take, oldest first. It holds on this node.
type arrears struct {
	mu   sync.Mutex
	owed []owed
	busy bool
}

var errJournal = errors.New("the journal of revocations that the store had not taken is damaged: sessions that were ended may come back; restore it from a copy; or remove it, start, and revoke the sessions of everybody who may be concerned")

// listOf is the list of a user's sign-ons, or "" when only a username is known.
func listOf(u User) string {
	if u.Source == "" || u.Subject == "" {
		return ""
	}
	return accountKey(u.Source, u.Subject)
}

// putOff obeys here what the store did not take, and sees to it that the store is told.
// Without a journal nothing is done: a restart would undo it.
func (m *Manager) putOff(ctx context.Context, list string, all ...revocation) {
	if m.journal == nil {
		return
	}
	var owe []owed
	for _, r := range all {
		owe = append(owe, owed{r, list})
	}
	m.owe(owe...)
	m.carryOut(ctx, all...)
}

// owe adds to what the store is to be told, and to the journal.
func (m *Manager) owe(all ...owed) {
	a := &m.arrears
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, o := range all {
		if !a.add(o) {
			m.log.Error("too many revocations wait for the store; one is obeyed on this node only, until it restarts")
		}
	}
	m.saveJournal()
}

// add adds one, or makes one that is there last longer.
func (a *arrears) add(o owed) bool {
	kind, id := o.Entry.name()
	for i := range a.owed {
		there := &a.owed[i]
		if k, same := there.Entry.name(); k == kind && same == id && there.List == o.List {
			there.Entry.Before = max(there.Entry.Before, o.Entry.Before)
			there.Entry.Until = max(there.Entry.Until, o.Entry.Until)
			return true
		}
	}
	if len(a.owed) >= maxOwed {
		return false
	}
	a.owed = append(a.owed, o)
	return true
}

// saveJournal writes what is owed. arrears.mu is held.
func (m *Manager) saveJournal() {
	if m.journal == nil {
		return
	}
	text, err := encodeJournal(m.arrears.owed)
	if err == nil {
		err = m.journal.Save(text)
	}
	if err != nil {
		m.log.Error("cannot write the journal of revocations that the store did not take; until it does, a restart of this node would undo them", "error", err)
	}
}

// encodeJournal makes a line with a checksum, and the entries.
func encodeJournal(all []owed) ([]byte, error) {
	if len(all) == 0 {
		return nil, nil
	}
	text, err := json.Marshal(all)
	if err != nil {
		return nil, err
	}
	return append(journalLine(text), text...), nil
}

func journalLine(text []byte) []byte {
	sum := sha256.Sum256(text)
	return []byte(labelJournal + " " + hex.EncodeToString(sum[:]) + "\n")
}

func decodeJournal(text []byte) (all []owed, err error) {
	if text == nil {
		return nil, nil
	}
	line, entries, _ := bytes.Cut(text, []byte("\n"))
	if !bytes.Equal(append(line[:len(line):len(line)], '\n'), journalLine(entries)) {
		return nil, errJournal
	}
	decoder := json.NewDecoder(bytes.NewReader(entries))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&all); err != nil || len(all) == 0 {
		return nil, errJournal
	}
	if _, err := decoder.Token(); err != io.EOF {
		return nil, errJournal
	}
	for _, o := range all {
		if !o.Entry.valid() {
			return nil, errJournal
		}
	}
	return all, nil
}

// loadJournal obeys what the journal holds from before a restart.
func (m *Manager) loadJournal() error {
	if m.journal == nil {
		return nil
	}
	text, err := m.journal.Load()
	if err != nil {
		return fmt.Errorf("reading the journal of revocations that the store had not taken: %w", err)
	}
	all, err := decodeJournal(text)
	if err != nil {
		return err
	}
	m.arrears.mu.Lock()
	defer m.arrears.mu.Unlock()
	for _, o := range all {
		if o.Entry.Until > m.now().Unix() && m.arrears.add(o) {
			m.take(o.Entry)
		}
	}
	return nil
}

// payArrears tells the store in the background what it did not take before.
func (m *Manager) payArrears() {
	a := &m.arrears
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.owed) == 0 || a.busy {
		return
	}
	a.busy = true
	m.loops.Go(func() {
		defer func() {
			a.mu.Lock()
			defer a.mu.Unlock()
			a.busy = false
		}()
		ctx, cancel := context.WithTimeout(m.life, revokeTimeout)
		defer cancel()
		m.settleArrears(ctx)
	})
}

// settleArrears tells the store, and stops at the first that it does not take.
func (m *Manager) settleArrears(ctx context.Context) {
	a := &m.arrears
	a.mu.Lock()
	all := slices.Clone(a.owed)
	a.mu.Unlock()
	paid := 0
	for _, o := range all {
		if o.Entry.Until > m.now().Unix() && m.payOne(ctx, o) != nil {
			break
		}
		paid++
	}
	if paid == 0 {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	// What was owed again meanwhile, for longer, is another one.
	a.owed = slices.DeleteFunc(a.owed, func(o owed) bool { return slices.Contains(all[:paid], o) })
	m.saveJournal()
	m.log.Info("the store has taken revocations that waited for it", "count", paid, "left", len(a.owed))
}

// payOne writes one. That of a provider's session that turns out to be of another
// subject is for nobody.
func (m *Manager) payOne(ctx context.Context, o owed) error {
	if o.Entry.Kind == labelRevokedProvider {
		if err := m.isAnothers(ctx, o); errors.Is(err, ErrGrant) {
			m.log.Warn("a provider ended a session of one subject in the name of another while the store was away; it holds on this node only")
			return nil
		} else if err != nil {
			return err
		}
	}
	if err := m.append(ctx, o.Entry); err != nil {
		return err
	}
	m.forget(ctx, o)
	return nil
}
