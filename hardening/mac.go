package hardening

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"hash"
	"sync"
	"sync/atomic"
)

// macs are the HMACs of one opened ring, ready to use: a keyed state that is reset costs a tenth of a fresh one.
type macs struct {
	ring  *openRing
	pools map[string]*sync.Pool // of *mac, by version
	ops   *atomic.Int64         // counts every HMAC; tests compare work by it
}

// mac is one HMAC with its scratch space. It belongs to whoever took it.
type mac struct {
	h     hash.Hash
	sub   [2]hash.Hash // under keys of their own, for records without the slow step and for sets; made when they are needed
	heads *heads
	salts salts
	in    []byte
	sum   [sha256.Size]byte
	ops   *atomic.Int64
}

// heads are how the records of one version alone begin, with and without the slow step.
type heads struct{ slow, fast []byte }

func newMacs(o *openRing, ops *atomic.Int64) *macs {
	m := &macs{ring: o, pools: map[string]*sync.Pool{}, ops: ops}
	for _, v := range o.body.Versions {
		if len(v.Key) == 0 {
			continue // destroyed
		}
		like := record{ring: o.file.Ring, layers: []string{v.ID}}
		begin := &heads{slow: like.appendHead(nil)}
		like.fast = true
		begin.fast = like.appendHead(nil)
		m.pools[v.ID] = &sync.Pool{New: func() any { return &mac{h: hmac.New(sha256.New, v.Key), heads: begin, ops: ops} }}
	}
	return m
}

// take returns the HMAC of a version, or says why the ring refuses it.
func (m *macs) take(id string, outermost bool) (*mac, error) {
	if _, err := m.ring.usable(id, outermost); err != nil {
		return nil, err
	}
	pool := m.pools[id]
	if pool == nil {
		return nil, fmt.Errorf("reading record: %w: this ring has no pepper %s", ErrForeign, id)
	}
	return pool.Get().(*mac), nil
}

// give puts it back; what it saw stays for the next input to overwrite, so that it is cleared here.
func (m *macs) give(id string, k *mac) {
	clear(k.in[:cap(k.in)])
	clear(k.sum[:])
	k.salts.end()
	if cap(k.in) > 1<<13 {
		k.in = nil
	}
	m.pools[id].Put(k)
}

// over computes the HMAC of a message. The result is valid until the next call.
func (k *mac) over(message []byte) []byte { return k.with(k.h, message) }

func (k *mac) with(h hash.Hash, message []byte) []byte {
	if k.ops != nil {
		k.ops.Add(1)
	}
	h.Reset()
	h.Write(message)
	return h.Sum(k.sum[:0])
}

// The kinds of first layers that work on the secret itself. Each has a key of its own, HMAC(pepper, label), so that none can be
// taken for another: whoever can change "s=argon2id" to "s=none" in a table must not pass with a slow hash.
const (
	kindFast = iota
	kindSet
)

var kindLabels = [2]string{kindFast: labelFast, kindSet: labelSet}

// inner is the first layer: the pepper over everything that the record is bound to, and the slow hash.
func (k *mac) inner(context, uid, salt, slow []byte) []byte {
	k.in = lp(lp(lp(lp(lp(k.in[:0], labelRecord), context), uid), salt), slow)
	return k.over(k.in)
}

// fast is the first layer without the slow step. The label is in the key and not in the message: a batch of thousands pays
// for each block.
func (k *mac) fast(kind int, context, uid, salt, secret []byte) []byte {
	if k.sub[kind] == nil {
		k.in = append(k.in[:0], kindLabels[kind]...)
		k.h.Reset()
		k.h.Write(k.in)
		k.sub[kind] = hmac.New(sha256.New, k.h.Sum(k.sum[:0]))
	}
	k.in = lp(lp(lp(lp(k.in[:0], context), uid), salt), secret)
	return k.with(k.sub[kind], k.in)
}

// layer lays a newer pepper over a tag. It needs no secret, which is how a whole table is re-keyed after a compromise. below
// is the version that made the tag: nobody shows that it did, and without the name a tag forged with a leaked pepper could
// get its layer under the name of another one.
func (k *mac) layer(label, below string, tag []byte) []byte {
	k.in = lp(lp(lp(k.in[:0], label), below), tag)
	return k.over(k.in)
}

// original computes the digest of the original form: rounds below two mean one HMAC, each further round takes the raw digest
// before.
func (k *mac) original(secret []byte, rounds int) []byte {
	sum := k.over(secret)
	for i := 1; i < rounds; i++ {
		sum = k.over(sum)
	}
	return sum
}

// tagOf computes what a record's tag must be for this secret; its caller holds a slot when the record is slow. Of a set it is
// the one digest that must be among the entries.
func (m *macs) tagOf(r *record, item *raw) ([]byte, error) {
	var tag [sha256.Size]byte
	size := r.size()
	for i, id := range r.layers {
		k, err := m.take(id, i == len(r.layers)-1)
		if err != nil {
			return nil, err
		}
		switch {
		case i > 0:
			copy(tag[:], k.layer(r.layerLabel(), r.layers[i-1], tag[:size]))
		case r.rounds > 0:
			copy(tag[:], k.original(item.secret, r.rounds))
		case r.entries > 0:
			copy(tag[:], k.fast(kindSet, item.context, item.uid, r.salt, item.secret))
		case r.fast:
			copy(tag[:], k.fast(kindFast, item.context, item.uid, r.salt, item.secret))
		default:
			slow := slowHash(item.secret, r.salt)
			copy(tag[:], k.inner(item.context, item.uid, r.salt, slow))
			clear(slow)
		}
		m.give(id, k)
	}
	return tag[:size], nil
}

// size is that of one tag.
func (r *record) size() int {
	if r.entries > 0 {
		return digestSize
	}
	return tagSize
}

func (r *record) layerLabel() string {
	if r.entries > 0 {
		return labelSetLayer
	}
	return labelLayer
}

// holds compares a tag with every one that the record holds. The time does not depend on which one it is, or whether any.
func (r *record) holds(tag []byte) int {
	found := 0
	for i := 0; i+len(tag) <= len(r.tag); i += len(tag) {
		found |= subtle.ConstantTimeCompare(tag, r.tag[i:i+len(tag)])
	}
	return found
}

// isSlow reports whether a verification runs the slow hash.
func (r *record) isSlow() bool { return !r.fast && r.rounds == 0 && r.entries == 0 }

// units is what one verification of the record costs.
func (r *record) units() int { return max(1, r.rounds) + len(r.layers) - 1 }
