package envelope

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
)

// ring is what lies in the store, in two lines of JSON: the body and the proof. The proof
// is the SHA-256 of the body, wrapped by a master: only who may use the master can make
// one. With a key from the memory of a node, or a data key that leaked, nobody can make a
// condemned key the primary again.
type ring struct {
	Version int       `json:"v"`
	Name    string    `json:"name"`
	Epoch   uint64    `json:"epoch"` // grows by one with each change
	Keys    []ringKey `json:"keys"`  // oldest first; destroyed ones stay, so that no id comes twice

	provedBy string // ID of the master of the proof; not part of the body
}

// ringKey is one data key, or with an id of prefixV1 what became of a local master's own
// sealing.
type ringKey struct {
	KeyInfo
	Check string `json:"check"`          // of the plain key: a master that answers with another one is found out
	Data  string `json:"data,omitempty"` // the wrapped key, base64url; "" when destroyed
}

type proof struct {
	Master  string `json:"master"`
	Wrapped string `json:"wrapped"`
}

const (
	ringVersion = 1
	maxRing     = 512 << 10
	maxKeys     = 1000
	provesRing  = "ring" // stands for a key's id in the context of a proof; ids are hex, so it is none
)

var (
	ringNames = regexp.MustCompile(`^[a-z][a-z0-9-]{0,31}$`)
	keyIDs    = regexp.MustCompile(`^(v1:)?[0-9a-f]{16}$`)
)

// about is the encryption context of one key of a ring.
func about(ringName, key string) map[string]string {
	return map[string]string{"service": "anteroom", "purpose": "data-key", "ring": ringName, "key": key}
}

func digest(body []byte) []byte {
	sum := sha256.Sum256(append([]byte(labelRing+"\x00"), body...))
	return sum[:]
}

// encode makes the record, with a proof by m.
func (r *ring) encode(ctx context.Context, m Master) ([]byte, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	body, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("encoding the key ring: %w", err)
	}
	wrapped, err := m.Wrap(ctx, digest(body), about(r.Name, provesRing))
	if err != nil {
		return nil, asMaster(m, err)
	}
	p := proof{Master: m.ID(), Wrapped: base64.RawURLEncoding.EncodeToString(wrapped)}
	if err := p.judge(ctx, m, r.Name, body); err != nil { // a ring that nobody can read again must not be stored
		return nil, err
	}
	end, err := json.Marshal(p)
	if err != nil {
		return nil, fmt.Errorf("encoding the key ring: %w", err)
	}
	record := slices.Concat(body, []byte("\n"), end)
	if len(record) > maxRing {
		return nil, fmt.Errorf("%w: the key ring would have %d bytes", ErrRefused, len(record))
	}
	return record, nil
}

// parseRing reads a record without judging its proof. A record has one spelling.
func parseRing(name string, record []byte) (*ring, proof, error) {
	refuse := func(why string) (*ring, proof, error) {
		return nil, proof{}, fmt.Errorf("%w: the key ring %q in the store is damaged: %s: restore the store from a backup", ErrRefused, name, why)
	}
	body, end, ok := bytes.Cut(record, []byte("\n"))
	if !ok || len(record) > maxRing {
		return refuse("it is not one of ours")
	}
	r, p := new(ring), proof{}
	if err := errors.Join(exactJSON(body, r), exactJSON(end, &p)); err != nil {
		return refuse(err.Error())
	}
	if r.Name != name {
		return refuse("it is another ring's")
	}
	if err := r.check(); err != nil {
		return refuse(err.Error())
	}
	r.provedBy = p.Master
	return r, p, nil
}

// exactJSON refuses what we would write differently: unknown or doubled members, other
// spellings. A newer version's ring is not rewritten by an older one that would lose a part.
func exactJSON(data []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return errors.New("not readable by this version")
	}
	if again, err := json.Marshal(into); err != nil || !bytes.Equal(again, data) {
		return errors.New("not spelled as this version does")
	}
	return nil
}

// check judges what must hold for every ring, ours included.
func (r *ring) check() error {
	if r.Version != ringVersion || r.Epoch == 0 || len(r.Keys) == 0 || len(r.Keys) > maxKeys {
		return fmt.Errorf("%w: version %d, epoch %d, %d keys", ErrRefused, r.Version, r.Epoch, len(r.Keys))
	}
	ids, primaries := map[string]bool{}, 0
	for _, k := range r.Keys {
		old := strings.HasPrefix(k.ID, prefixV1)
		switch {
		case !keyIDs.MatchString(k.ID) || ids[k.ID]:
			return fmt.Errorf("%w: key id %q", ErrRefused, k.ID)
		case !old && len(k.Check) != 2*checkLen:
			return fmt.Errorf("%w: check value of key %s", ErrRefused, k.ID)
		case old && (k.Data != "" || k.State != StateCondemned && k.State != StateDestroyed):
			return fmt.Errorf("%w: entry %s", ErrRefused, k.ID)
		case !old && (k.State == StateDestroyed) != (k.Data == ""):
			return fmt.Errorf("%w: key %s is %s and has %d characters", ErrRefused, k.ID, k.State, len(k.Data))
		}
		ids[k.ID] = true
		switch k.State {
		case StatePrimary:
			primaries++
		case StateOpen, StateCondemned, StateDestroyed:
		default:
			return fmt.Errorf("%w: state %q of key %s", ErrRefused, k.State, k.ID)
		}
	}
	if primaries != 1 {
		return fmt.Errorf("%w: %d primary keys", ErrRefused, primaries)
	}
	return nil
}

// follows reports why next may not take the place of r while this process runs, "" if it may.
func (r *ring) follows(next *ring) string {
	if next.Epoch <= r.Epoch {
		return fmt.Sprintf("it has epoch %d and this node has seen %d: the store was set back, or somebody put an old ring there", next.Epoch, r.Epoch)
	}
	for _, k := range r.Keys {
		n := next.key(k.ID)
		if n == nil || rank(n.State) < rank(k.State) || n.Check != k.Check {
			return fmt.Sprintf("key %s was %s and must not be anything before that", k.ID, k.State)
		}
	}
	return ""
}

// rank orders the states that a key goes through and never back. A primary that lost its
// place is open and never the primary again.
func rank(state string) int {
	return slices.Index([]string{StatePrimary, StateOpen, StateCondemned, StateDestroyed}, state)
}

func (r *ring) key(id string) *ringKey {
	for i := range r.Keys {
		if r.Keys[i].ID == id {
			return &r.Keys[i]
		}
	}
	return nil
}

func (r *ring) primary() *ringKey {
	for i := range r.Keys {
		if r.Keys[i].State == StatePrimary {
			return &r.Keys[i]
		}
	}
	return nil
}

// set moves a key to a state.
func (k *ringKey) set(state string, now time.Time) {
	k.State, k.Changed = state, now
}

func (k *ringKey) wrapped() ([]byte, error) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(k.Data)
	if err != nil || len(b) == 0 || len(b) > maxWrapped {
		return nil, fmt.Errorf("%w: the wrapped bytes of key %s are damaged", ErrSealed, k.ID)
	}
	return b, nil
}

// wrap notes that m wrapped the key.
func (k *ringKey) wrap(m Master, wrapped []byte, now time.Time) {
	k.Data, k.Master, k.Wrapped = base64.RawURLEncoding.EncodeToString(wrapped), m.ID(), now
}

func (r *ring) clone() *ring {
	c := *r
	c.Keys = slices.Clone(r.Keys)
	return &c
}

// judge checks the proof of a ring with the master that it names.
func (p proof) judge(ctx context.Context, m Master, name string, body []byte) error {
	wrapped, err := base64.RawURLEncoding.Strict().DecodeString(p.Wrapped)
	if err != nil || len(wrapped) == 0 || len(wrapped) > maxWrapped {
		return fmt.Errorf("%w: the proof of the key ring %q is damaged", ErrSealed, name)
	}
	plain, err := m.Unwrap(ctx, wrapped, about(name, provesRing))
	if err != nil {
		return fmt.Errorf("checking the proof of the key ring %q: %w", name, asMaster(m, err))
	}
	if subtle.ConstantTimeCompare(plain, digest(body)) != 1 {
		return fmt.Errorf("%w: the key ring %q was changed by somebody without the master key: restore the store from a backup", ErrSealed, name)
	}
	return nil
}

const checkLen = 16

// checkOf is the published check value of a data key. HKDF keeps it apart from all keys
// that are derived from it.
func checkOf(key *secret, ringName string) (string, error) {
	b, err := deriveFrom(key, labelCheck+"\x00"+ringName, checkLen)
	return hex.EncodeToString(b), err
}
