package hardening

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Census is what a count of an application's records found: which peppers they still need. The ring keeps the last finished
// one, because it decides whether a pepper may go.
type Census struct {
	ID    string    `json:"census"`
	Began time.Time `json:"began"`
	Ended time.Time `json:"ended"`
	// Records were counted; Foreign of them were not records of this ring.
	Records int `json:"records"`
	Foreign int `json:"foreign"`
	// Versions counts the records that need a version, in whatever layer; Outermost those whose last layer it is.
	Versions  map[string]int `json:"versions"`
	Outermost map[string]int `json:"outermost"`
}

// RingStatus is what may be known of a ring. Nothing in it is secret.
type RingStatus struct {
	Name  string `json:"name"`
	Ring  string `json:"ring,omitempty"`
	Epoch uint64 `json:"epoch,omitempty"`
	// State is open, locked (it exists and cannot be opened) or waiting (for a TLS key, or for the store).
	State string `json:"state"`
	// Detail says what is wrong and what to do about it.
	Detail   string          `json:"detail,omitempty"`
	Versions []VersionStatus `json:"versions"`
	Stanzas  []StanzaStatus  `json:"stanzas"`
	// UpgradeDue: a pepper is compromised, and records may stand under it alone. Send them all through `upgrade`.
	UpgradeDue bool     `json:"upgrade_due"`
	Primary    string   `json:"primary,omitempty"`
	LiveTLS    []string `json:"live_tls"`
	Banned     []string `json:"banned,omitempty"` // compromised keys that nothing is wrapped for
	LastCensus *Census  `json:"last_census,omitempty"`
}

// VersionStatus is a version without its key.
type VersionStatus struct {
	ID          string    `json:"id"`
	State       State     `json:"state"`
	Created     time.Time `json:"created"`
	Activates   time.Time `json:"activates,omitzero"`
	Changed     time.Time `json:"changed,omitzero"`
	Compromised bool      `json:"compromised,omitempty"`
}

// StanzaStatus names one recipient: tls, recovery or kms.
type StanzaStatus struct {
	Type     string    `json:"type"`
	KID      string    `json:"kid"`
	NotAfter time.Time `json:"not_after,omitzero"`
}

// The values of RingStatus.State.
const (
	RingOpen    = "open"
	RingLocked  = "locked"
	RingWaiting = "waiting"
)

// Name is the ring's name in its store.
func (r *Ring) Name() string { return r.cfg.Name }

// Status says how the ring is, as of the last look at the store. It asks nobody.
func (r *Ring) Status() RingStatus {
	r.mu.Lock()
	o, err, live := r.open, r.err, slices.Clone(r.live)
	r.mu.Unlock()
	return r.statusOf(o, err, live)
}

func (r *Ring) statusOf(open *openRing, err error, live []string) RingStatus {
	s := RingStatus{Name: r.cfg.Name, State: RingWaiting, Versions: []VersionStatus{}, Stanzas: []StanzaStatus{}, LiveTLS: live}
	if s.LiveTLS == nil {
		s.LiveTLS = []string{}
	}
	if err != nil {
		s.Detail = err.Error()
	}
	if open == nil {
		if errors.Is(err, ErrLocked) {
			s.State = RingLocked
		}
		return s
	}
	o := open.clone()
	o.promote(r.cfg.Now())
	s.State, s.Ring, s.Epoch, s.Primary, s.UpgradeDue = RingOpen, o.file.Ring, o.file.Epoch, o.body.Primary, o.upgradeDue()
	s.LastCensus, s.Banned = o.body.Census, slices.Clone(o.body.Banned)
	if err == nil && len(live) > 0 && !slices.ContainsFunc(live, func(kid string) bool { return !o.banned(kid) }) {
		s.Detail = "the site still serves a TLS key that is compromised, and the ring is not wrapped for it: give the site a new certificate with a new key before this program is restarted"
	}
	for _, v := range o.body.Versions {
		s.Versions = append(s.Versions, VersionStatus{v.ID, v.State, v.Created, v.Activates, v.Changed, v.Compromised})
	}
	for _, st := range o.file.Stanzas {
		s.Stanzas = append(s.Stanzas, StanzaStatus{st.Type, st.KID, st.NotAfter})
	}
	return s
}

// refresh looks at the store at once, for a record that names a version which this node does not know: a peer may have
// made it a moment ago. It looks at most once a second, however many such records come, and returns what is held then.
func (r *Ring) refresh(ctx context.Context) *openRing {
	r.mu.Lock()
	now := r.cfg.Now()
	due := now.Sub(r.refreshed).Abs() >= time.Second
	if due {
		r.refreshed = now
	}
	r.mu.Unlock()
	if due {
		ctx, cancel := context.WithTimeout(ctx, syncTimeout)
		defer cancel()
		_ = r.Sync(ctx) // it reports its own trouble
	}
	return r.held()
}

const (
	maxCensusVersions = 256
	maxCensusID       = 128
)

// KeepCensus makes a finished count the one that Retire and Close go by.
func (r *Ring) KeepCensus(ctx context.Context, c Census) error {
	if c.ID == "" || len(c.ID) > maxCensusID || len(c.Versions) > maxCensusVersions || len(c.Outermost) > maxCensusVersions || c.Began.IsZero() || c.Ended.Before(c.Began) {
		return fmt.Errorf("keeping census: %w: it is not a finished count", ErrInput)
	}
	_, err := r.change(ctx, "keeping a census of", func(o *openRing, _ []TLSKey) (bool, error) {
		if o.body.Census != nil && o.body.Census.ID == c.ID {
			return false, nil
		}
		o.body.Census = &c
		return true, nil
	})
	return err
}
