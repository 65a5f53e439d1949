package oidc

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/anteroom-proxy/anteroom/identity"
	"github.com/anteroom-proxy/anteroom/jws"
	"github.com/anteroom-proxy/anteroom/store"
)

// How a key that was made here is replaced. A provider believes the keys that it has
// read at our address, or that somebody registered there by hand; when it reads again
// is its own business. So a new key is published first and signs later, after the
// provider has accepted it in a request that changes nothing, and the old one stays
// published for a while after that. Only a key that may have been stolen is replaced
// at once.

// formerTime is how long a key is published after it has signed for the last time. Its
// private half is gone by then: it is for assertions under way and for nodes that have
// not looked yet.
const formerTime = 24 * time.Hour

// heldKeys are the keys of a record, opened.
type heldKeys struct {
	sealed      []byte // what they were read from
	signs       crypto.Signer
	created     time.Time // zero: not known
	next        crypto.Signer
	nextCreated time.Time
	former      []formerKey
}

type formerKey struct {
	public crypto.PublicKey
	until  time.Time
}

// String and GoString name nothing: what is in there is secret.
func (*heldKeys) String() string   { return "oidc.keys" }
func (*heldKeys) GoString() string { return "oidc.keys" }

// published are the public keys that a provider may believe, the one that signs first.
func (h *heldKeys) published(now time.Time) []crypto.PublicKey {
	all := []crypto.PublicKey{h.signs.Public()}
	if h.next != nil {
		all = append(all, h.next.Public())
	}
	for _, f := range h.former {
		if now.Before(f.until) {
			all = append(all, f.public)
		}
	}
	return all
}

func makeKey() (crypto.Signer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making client key: %w", err)
	}
	return key, nil
}

// unixOf is 0 for a time that is not known.
func unixOf(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}

func timeOf(unix int64) time.Time {
	if unix == 0 {
		return time.Time{}
	}
	return time.Unix(unix, 0)
}

func (k *madeKey) seal(ctx context.Context, h *heldKeys) ([]byte, error) {
	record := keyRecord{keyOwner: k.owner, Created: unixOf(h.created)}
	var err error
	if record.Key, err = x509.MarshalPKCS8PrivateKey(h.signs); err != nil {
		return nil, fmt.Errorf("encoding client key: %w", err)
	}
	defer clear(record.Key)
	if h.next != nil {
		record.Next = &nextRecord{Created: unixOf(h.nextCreated)}
		if record.Next.Key, err = x509.MarshalPKCS8PrivateKey(h.next); err != nil {
			return nil, fmt.Errorf("encoding client key: %w", err)
		}
		defer clear(record.Next.Key)
	}
	for _, f := range h.former {
		public, err := x509.MarshalPKIXPublicKey(f.public)
		if err != nil {
			return nil, fmt.Errorf("encoding client key: %w", err)
		}
		record.Former = append(record.Former, formerPart{public, f.until.Unix()})
	}
	text, err := json.Marshal(record)
	if err != nil {
		return nil, fmt.Errorf("encoding client key: %w", err)
	}
	defer clear(text)
	sealed, err := k.from.Sealer.Seal(ctx, k.label, text)
	if err != nil {
		return nil, fmt.Errorf("sealing client key: %w", err)
	}
	return sealed, nil
}

func (k *madeKey) open(ctx context.Context, sealed []byte) (*heldKeys, error) {
	text, err := k.from.Sealer.Open(ctx, k.label, sealed)
	if err != nil {
		return nil, fmt.Errorf("opening client key: %w; it is not replaced, because the provider knows it: bring back the master key that sealed it", err)
	}
	defer clear(text)
	var record keyRecord
	if err := json.Unmarshal(text, &record); err != nil || record.keyOwner != k.owner {
		return nil, errors.New("opening client key: the record is another client's")
	}
	h := &heldKeys{sealed: sealed, created: timeOf(record.Created)}
	if h.signs, err = parsedKey(record.Key); err != nil {
		return nil, err
	}
	if record.Next != nil {
		h.nextCreated = timeOf(record.Next.Created)
		if h.next, err = parsedKey(record.Next.Key); err != nil {
			return nil, err
		}
	}
	for _, f := range record.Former {
		public, err := x509.ParsePKIXPublicKey(f.Public)
		if err != nil {
			return nil, errors.New("opening client key: a former key in the record cannot be read")
		}
		h.former = append(h.former, formerKey{public, time.Unix(f.Until, 0)})
	}
	return h, nil
}

// parsedKey reads a private key and clears what it was read from.
func parsedKey(der []byte) (crypto.Signer, error) {
	defer clear(der)
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	key, ok := parsed.(*ecdsa.PrivateKey)
	if err != nil || !ok {
		return nil, errors.New("opening client key: the record holds no key")
	}
	return key, nil
}

// change replaces the record by what alter makes of it; nil: it stays. create says that
// there has to be one.
func (k *madeKey) change(ctx context.Context, create bool, alter func(h heldKeys) (*heldKeys, error)) (*heldKeys, error) {
	leave, err := k.take(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	for round := 0; ; round++ {
		h, err := k.read(ctx)
		if create && errors.Is(err, store.ErrNotFound) {
			h, err = k.load(ctx)
		}
		if err != nil {
			return nil, err
		}
		next, err := alter(*h)
		if err != nil || next == nil {
			return h, err
		}
		now := k.now()
		next.former = slices.DeleteFunc(slices.Clone(next.former), func(f formerKey) bool { return !now.Before(f.until) })
		switch err := k.write(ctx, h.sealed, next); {
		case err == nil:
			k.ready, k.looked = next, now
			return next, nil
		case !errors.Is(err, store.ErrConflict) || round == 5:
			return nil, err
		}
		if err := store.Pause(ctx, round); err != nil {
			return nil, fmt.Errorf("storing client key: %w", err)
		}
	}
}

// The states of a ClientKey.
const (
	KeySigns  = "signing" // proves who we are
	KeyNext   = "next"    // published, and signs when ActivateKey says so
	KeyFormer = "former"  // published until its time is over; its private half is gone
)

// ClientKey is what everybody may know of a key that was made here.
type ClientKey struct {
	KID     string          `json:"kid"` // RFC 7638
	Use     string          `json:"use"` // client (private_key_jwt) or dpop
	State   string          `json:"state"`
	Created time.Time       `json:"created,omitzero"`
	Until   time.Time       `json:"until,omitzero"`
	JWK     json.RawMessage `json:"jwk,omitempty"` // to be registered where the provider does not fetch it
}

// own says whether the client proves itself with a key that is made here.
func (s *Source) own() bool { return s.config.Client.Auth == privateKeyJWT && s.given.signer == nil }

// MakesKeys says whether this client has keys that are made here.
func (s *Source) MakesKeys() bool { return s.own() || s.bound() }

// ClientKeys lists the keys of this client that were made here, and makes none.
func (s *Source) ClientKeys(ctx context.Context) ([]ClientKey, error) {
	var all []ClientKey
	for _, of := range []struct {
		use  string
		made *madeKey
		is   bool
	}{{"client", s.signs, s.own()}, {"dpop", s.proves, s.bound()}} {
		if !of.is {
			continue
		}
		h, err := of.made.change(ctx, false, func(heldKeys) (*heldKeys, error) { return nil, nil })
		if errors.Is(err, store.ErrNotFound) {
			continue // it is made when it is needed first
		}
		if err != nil {
			return nil, err
		}
		add := func(public crypto.PublicKey, k ClientKey) error {
			member := s.signingMember(public)
			if of.use == "dpop" {
				delete(member, "use")
			}
			if err := spellOut(member); err != nil {
				return err
			}
			k.Use, k.KID = of.use, member["kid"].(string)
			k.JWK, err = json.Marshal(member)
			all = append(all, k)
			return err
		}
		err = add(h.signs.Public(), ClientKey{State: KeySigns, Created: h.created})
		if h.next != nil && err == nil {
			err = add(h.next.Public(), ClientKey{State: KeyNext, Created: h.nextCreated})
		}
		for _, f := range h.former {
			if err == nil && s.now().Before(f.until) {
				err = add(f.public, ClientKey{State: KeyFormer, Until: f.until})
			}
		}
		if err != nil {
			return nil, err
		}
	}
	return all, nil
}

var errNotOurs = errors.New("this client does not prove itself with a key that is made here: a secret is changed at the provider and in the config; a key file (client_key) by a new file, which the provider has to know first, and a reload")

// PublishKey makes the next client key and publishes it beside the present one. When there
// is a next one already, nothing changes.
func (s *Source) PublishKey(ctx context.Context) error {
	if !s.own() {
		return errNotOurs
	}
	_, err := s.signs.change(ctx, true, func(h heldKeys) (*heldKeys, error) {
		if h.next != nil {
			return nil, nil
		}
		var err error
		h.next, err = makeKey()
		h.nextCreated = s.now()
		return &h, err
	})
	return err
}

// ActivateKey has the next client key sign, after the provider has accepted it in a request
// that changes nothing. With force it is not asked.
func (s *Source) ActivateKey(ctx context.Context, force bool) error {
	if !s.own() {
		return errNotOurs
	}
	var tried crypto.Signer
	h, err := s.signs.change(ctx, true, func(heldKeys) (*heldKeys, error) { return nil, nil })
	if err != nil {
		return err
	}
	if tried = h.next; tried == nil {
		return errors.New("there is no next key: make one without --activate first, and let the provider know it")
	}
	if !force {
		if err := s.tryKey(ctx, tried); err != nil {
			return err
		}
	}
	_, err = s.signs.change(ctx, true, func(h heldKeys) (*heldKeys, error) {
		if h.next == nil || !sameKey(h.next, tried) {
			return nil, errors.New("somebody else has changed the keys at the same moment: look at `anteroom keys status`")
		}
		h.former = append(slices.Clone(h.former), formerKey{h.signs.Public(), s.now().Add(formerTime)})
		h.signs, h.created, h.next, h.nextCreated = h.next, h.nextCreated, nil, time.Time{}
		return &h, nil
	})
	return err
}

func sameKey(a, b crypto.Signer) bool {
	one, ok := a.Public().(*ecdsa.PublicKey)
	return ok && one.Equal(b.Public())
}

// asKey is the client key for one request, in its context.
type asKey struct{}

// tryKey sends a token request with a code that nobody has given out. A provider that knows
// the key refuses the code (invalid_grant, RFC 6749, section 5.2); one that does not refuses
// the client. Any other answer proves nothing.
func (s *Source) tryKey(ctx context.Context, key crypto.Signer) error {
	p, err := s.ready(ctx)
	if err != nil {
		return fmt.Errorf("the provider cannot be asked whether it knows the new key, which is not used therefore: %w", err)
	}
	form := url.Values{"grant_type": {"authorization_code"}, "code": {random()}, "redirect_uri": {s.issuer}, "code_verifier": {random()}}
	status, answer, err := s.post(context.WithValue(ctx, asKey{}, key), p, p.tokenURL, form, s.bound())
	code, _, _ := answer.String("error")
	switch {
	case err != nil:
		return fmt.Errorf("the provider cannot be asked whether it knows the new key, which is not used therefore: %w", tokenFailure(err))
	case code == "invalid_grant" && status == http.StatusBadRequest:
		return nil
	case identity.Reason(tokenRefusal(status, code)) == "token.client":
		return errors.New("the provider does not accept the new key yet, which is not used therefore, and sign-ins go on with the old one: " +
			"where it fetches our keys, wait until it has done so; where keys are registered by hand, register the new one beside the old one, and repeat the command")
	}
	return fmt.Errorf("the provider does not say whether it knows the new key (status %d), which is not used therefore: see there that it has it, and repeat the command with --force", status)
}

// KeyNames are the names of the keys that sign now: the client's and the one of DPoP proofs.
func (s *Source) KeyNames(ctx context.Context) ([]string, error) {
	all, err := s.ClientKeys(ctx)
	var kids []string
	for _, k := range all {
		if k.State == KeySigns {
			kids = append(kids, k.KID)
		}
	}
	return kids, err
}

// ReplaceKeys makes a new key at once in the place of each that has one of these names, and
// publishes no other one any more. It may be repeated.
func (s *Source) ReplaceKeys(ctx context.Context, names []string) error {
	for _, made := range []*madeKey{s.signs, s.proves} {
		if made == s.signs && !s.own() || made == s.proves && !s.bound() {
			continue
		}
		_, err := made.change(ctx, false, func(h heldKeys) (*heldKeys, error) {
			kid, err := jws.Thumbprint(h.signs.Public())
			if err != nil || !slices.Contains(names, kid) {
				return nil, err
			}
			fresh, err := makeKey()
			return &heldKeys{signs: fresh, created: s.now()}, err
		})
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
	}
	return nil
}
