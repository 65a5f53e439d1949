package caddymodule

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/anteroom-proxy/anteroom/audit"
	"github.com/anteroom-proxy/anteroom/budget"
	"github.com/anteroom-proxy/anteroom/emergency"
	"github.com/anteroom-proxy/anteroom/envelope"
	"github.com/anteroom-proxy/anteroom/hardening"
	"github.com/anteroom-proxy/anteroom/identity/oidc"
	"github.com/anteroom-proxy/anteroom/portal"
	"github.com/anteroom-proxy/anteroom/rekey"
	"github.com/anteroom-proxy/anteroom/session"
	"github.com/anteroom-proxy/anteroom/store"
)

// sealedAt are the packages that keep something sealed in the store. A package that begins to must stand here: a value that
// nobody knows stops an operation before a compromised key is destroyed.
var sealedAt = []func(key string) (label string, ok bool){session.SealedAt, emergency.SealedAt, budget.SealedAt, portal.SealedAt, oidc.SealedAt}

// labelOf is the seal label of a store key.
func labelOf(key string) (label string, ok bool) {
	for _, f := range sealedAt {
		if label, ok = f(key); ok {
			return label, true
		}
	}
	return "", false
}

// keyNode names this process in the journal of key operations.
var keyNode = sync.OnceValue(func() string {
	b := make([]byte, 8)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
})

// keyTurns hold, for each store, the turn of the one config of this process that works at its operation: around a reload there
// are two.
var keyTurns sync.Map

func keyTurn(store string) chan struct{} {
	turn, _ := keyTurns.LoadOrStore(store, make(chan struct{}, 1))
	return turn.(chan struct{})
}

// openKeys makes what carries out operations on keys. sessions is nil before they are open: then only Mend may be called.
func (a *App) openKeys(st openStore, log audit.Recorder, sessions *session.Manager, certs *storageDesk) (*rekey.Operator, error) {
	_, alone := a.storeFrom.(*Bolt)
	sealed, _ := st.Store.(store.Sealed)
	c := rekey.Config{
		Store: st.Store, Sealed: sealed, Own: dataKeys{st.envelope}, KeyOf: envelope.KeyOf, LabelOf: labelOf, Never: neverOpens, First: session.SealedFirst(),
		Rings: a.pepperRings, Clients: a.keyClients, Audit: log, Alone: alone, Node: keyNode(), Turn: keyTurn(a.storeFrom.Name(a.Directory)),
		Timing: rekey.Timing{Logger: poolLogger("keys")},
	}
	if st.apps != nil {
		c.Apps = dataKeys{st.apps}
	}
	if sessions != nil {
		c.Sessions = func() rekey.Sessions { return signers{sessions} }
	}
	if files, ok := a.certificates(); ok && certs == nil && files.place == a.storeFrom.Name(a.Directory) {
		c.Exposed = []string{noteCertificates}
	}
	a.keyFiles(st, certs, alone, &c)
	return rekey.New(c)
}

// keyDesk is what a running config does with operations on keys.
type keyDesk struct {
	*rekey.Operator
	apps   *envelope.Envelope
	rings  func() []rekey.Ring
	certs  *storageDesk
	cancel func()

	clients []*oidc.Source
	prefix  string // of our own pages
}

// openKeyDesk begins to carry operations out, also those that an earlier process left behind, until stop is called.
func (a *App) openKeyDesk(st openStore, log audit.Recorder, sessions *session.Manager) (keyDesk, error) {
	certs, err := a.openStorageDesk(st, log)
	if err != nil {
		return keyDesk{}, err
	}
	o, err := a.openKeys(st, log, sessions, certs)
	if err != nil {
		certs.stop()
		return keyDesk{}, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		o.Follow(ctx)
	}()
	return keyDesk{
		Operator: o, apps: st.apps, rings: a.pepperRings, certs: certs, cancel: func() { cancel(); certs.stop(); <-done },
		clients: a.oidcSources(), prefix: a.Prefix,
	}, nil
}

// stop may be called again.
func (k keyDesk) stop() {
	if k.cancel != nil {
		k.cancel()
	}
}

// mendKeys looks, before sessions are opened, after what an operation that was cut short has left.
func (a *App) mendKeys(st openStore, log audit.Recorder) error {
	o, err := a.openKeys(st, log, nil, nil)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), openTimeout)
	defer cancel()
	return o.Mend(ctx)
}

// neverOpens says of a value in a store whether it opens with no key. nil: it opens, and is none of ours.
func neverOpens(err error) bool {
	return err == nil || errors.Is(err, envelope.ErrSealed) && !errors.Is(err, envelope.ErrUnavailable) && !errors.Is(err, envelope.ErrRefused)
}

// dataKeys is an envelope as operations on keys see it.
type dataKeys struct{ *envelope.Envelope }

func keyInfo(k envelope.KeyInfo) rekey.Key {
	return rekey.Key{ID: k.ID, State: k.State, Created: k.Created, Changed: k.Changed, Master: k.Master, Wrapped: k.Wrapped}
}

// Keys implements rekey.DataKeys.
func (d dataKeys) Keys() []rekey.Key {
	var list []rekey.Key
	for _, k := range d.Envelope.Keys() {
		list = append(list, keyInfo(k))
	}
	return list
}

// Rotate implements rekey.DataKeys.
func (d dataKeys) Rotate(ctx context.Context) (rekey.Key, error) {
	k, err := d.Envelope.Rotate(ctx)
	return keyInfo(k), err
}

// Condemn implements rekey.DataKeys.
func (d dataKeys) Condemn(ctx context.Context, id string) (rekey.Key, error) {
	k, err := d.Envelope.Condemn(ctx, id)
	return keyInfo(k), err
}

// Reseal implements rekey.DataKeys.
func (d dataKeys) Reseal(ctx context.Context, label string, sealed []byte) (out []byte, changed bool, err error) {
	out, changed, err = d.Envelope.Reseal(ctx, label, sealed)
	if errors.Is(err, envelope.ErrSealed) && !errors.Is(err, envelope.ErrUnavailable) {
		err = fmt.Errorf("%w: %w", rekey.ErrSealed, err)
	}
	return out, changed, err
}

// signers is a session manager as operations on keys see it.
type signers struct{ m *session.Manager }

// SigningKeys implements rekey.Sessions.
func (s signers) SigningKeys() []string {
	var kids []string
	for _, k := range s.m.Keys() {
		kids = append(kids, k.KID)
	}
	return kids
}

// Made implements rekey.Sessions.
func (s signers) Made() []string { return s.m.Made() }

// KillKey implements rekey.Sessions.
func (s signers) KillKey(ctx context.Context, kid string) error {
	err := s.m.KillKey(ctx, kid)
	var unknown *session.KeyError
	if errors.As(err, &unknown) && unknown.Matches == 0 {
		return nil // it is over, or was killed before this process began
	}
	return err
}

// EndAll implements rekey.Sessions.
func (s signers) EndAll(ctx context.Context) error { return s.m.EndAll(ctx) }

// pepperRings are the rings of the config's hmac_services, each once.
func (a *App) pepperRings() []rekey.Ring {
	v, err := a.ctx.AppIfConfigured("anteroom_hmac")
	if err != nil {
		return nil
	}
	var rings []rekey.Ring
	seen := map[string]bool{}
	for _, h := range v.(*hmacApp).registered() {
		if h.ring != nil && !seen[h.Ring] {
			seen[h.Ring] = true
			rings = append(rings, pepperRing{h.ring})
		}
	}
	return rings
}

// pepperRing is a ring as operations on keys see it.
type pepperRing struct{ *hardening.Ring }

// Knows implements rekey.Ring.
func (r pepperRing) Knows(id string) (known, over bool) {
	s := r.Status()
	for _, v := range s.Versions {
		if v.ID == id {
			return true, v.Compromised || v.State == hardening.StateDestroyed
		}
	}
	if len(id) < 16 {
		return false, false
	}
	for _, kid := range s.Banned {
		if strings.HasPrefix(kid, id) {
			return true, true
		}
	}
	for _, stanza := range s.Stanzas {
		if stanza.Type != "kms" && strings.HasPrefix(stanza.KID, id) {
			return true, false
		}
	}
	for _, kid := range s.LiveTLS {
		if strings.HasPrefix(kid, id) {
			return true, false
		}
	}
	return false, false
}

// Compromise implements rekey.Ring.
func (r pepperRing) Compromise(ctx context.Context, id string) (string, error) {
	s, err := r.Ring.Compromise(ctx, id)
	return s.Primary, err
}

// Rotate implements rekey.Ring. The new pepper waits until every node has it.
func (r pepperRing) Rotate(ctx context.Context) (string, error) {
	s, err := r.Ring.Rotate(ctx, hardening.DefaultRotate)
	if err != nil {
		return "", err
	}
	for _, v := range s.Versions {
		if v.State == hardening.StatePending {
			return v.ID + " from " + v.Activates.UTC().Format(time.TimeOnly) + " UTC on", nil
		}
	}
	return s.Primary, nil
}
