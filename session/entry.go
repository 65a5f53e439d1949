package session

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"strings"
	"time"
)

const (
	// rememberBefore is how long a revocation by account, by username or of
	// everybody is kept: no session lives longer, whatever any node's lifetimes.
	rememberBefore = longestAbsolute + 24*time.Hour
	// batchSize is the number of revocations in one entry of many.
	batchSize = 256
)

// revocation is one feed entry. Version 0.1 wrote the members kind, sid and until
// only; its entries are obeyed like any.
type revocation struct {
	Kind   string `json:"kind"`
	ID     string `json:"sid,omitempty"`
	Reason string `json:"reason,omitempty"`
	Key    string `json:"key,omitempty"` // hash of the provider's session, the account or the username
	KID    string `json:"kid,omitempty"`
	Before int64  `json:"before,omitempty"` // seconds: what began until then
	Until  int64  `json:"until"`            // seconds: when it has no meaning any more
}

// manyRevocations is an entry that holds others.
type manyRevocations struct {
	Kind    string       `json:"kind"`
	Entries []revocation `json:"entries"`
	Until   int64        `json:"until"`
}

// encode makes the entry of one revocation, or of several.
func encode(all []revocation) (value []byte, until time.Time, err error) {
	many := manyRevocations{Kind: labelRevokedMany, Entries: all}
	for _, r := range all {
		many.Until = max(many.Until, r.Until)
	}
	if len(all) == 1 {
		value, err = json.Marshal(all[0])
	} else {
		value, err = json.Marshal(many)
	}
	return value, time.Unix(many.Until, 0), err
}

var errFeed = errors.New("the revocation feed holds an entry that this version does not understand; run the newest version on every node")

// kindLabels are the kinds of entries by the kinds of names.
var kindLabels = [kindsOfName]string{bySession: labelRevoked, byProvider: labelRevokedProvider, byAccount: labelRevokedAccount, byUsername: labelRevokedUsername}

// obey takes in one feed entry. An entry of ours that is not understood is an
// error, which makes the node stale: it may well be a revocation.
func (m *Manager) obey(value []byte) error {
	var kind struct {
		Kind string `json:"kind"`
	}
	if err := json.Unmarshal(value, &kind); err != nil || kind.Kind == "" {
		return errFeed
	}
	if !strings.HasPrefix(kind.Kind, labelFamily) {
		return nil // another package's
	}
	decoder := json.NewDecoder(bytes.NewReader(value))
	decoder.DisallowUnknownFields()
	if kind.Kind != labelRevokedMany {
		var r revocation
		if err := decoder.Decode(&r); err != nil {
			return errFeed
		}
		return m.obeyOne(r)
	}
	var many manyRevocations
	if err := decoder.Decode(&many); err != nil || len(many.Entries) == 0 {
		return errFeed
	}
	for _, r := range many.Entries {
		if err := m.obeyOne(r); err != nil {
			return err
		}
	}
	return nil
}

func (m *Manager) obeyOne(r revocation) error {
	if !r.valid() {
		return errFeed
	}
	if r.Kind == labelKilledKey {
		return m.obeyKilledKey(r)
	}
	if r.Until > m.now().Unix() {
		m.take(r)
	}
	kind, id := r.name()
	m.follows.reads(kind, id)
	return nil
}

// valid says whether the entry is of a form that this version knows. A member that
// its kind does not have makes it another: it may narrow or widen what is meant.
func (r revocation) valid() bool {
	bare := revocation{Kind: r.Kind, Until: r.Until}
	good := false
	switch r.Kind {
	case labelRevoked:
		bare.ID, bare.Reason = r.ID, r.Reason
		good = isID(r.ID)
	case labelRevokedProvider:
		bare.Key = r.Key
		good = isID(r.Key)
	case labelRevokedAccount, labelRevokedUsername:
		bare.Key, bare.Before = r.Key, r.Before
		good = isID(r.Key) && r.Before > 0 && r.Before < math.MaxUint32
	case labelRevokedAll:
		bare.Before = r.Before
		good = r.Before > 0 && r.Before < math.MaxUint32
	case labelKilledKey:
		bare.KID = r.KID
		good = r.KID != ""
	}
	return good && r == bare && r.Until > 0 && r.Until < math.MaxUint32-15
}

// name is what the entry revokes; of everybody it is the zero name.
func (r revocation) name() (kind nameKind, id shortID) {
	switch r.Kind {
	case labelRevoked:
		return bySession, parseID(r.ID)
	case labelRevokedProvider:
		return byProvider, parseID(r.Key)
	case labelRevokedAccount:
		return byAccount, parseID(r.Key)
	case labelRevokedUsername:
		return byUsername, parseID(r.Key)
	}
	return kindsOfName, shortID{}
}

// take takes a valid entry into memory. One session's connections are cut at once,
// those of all others by [Manager.cutRevoked].
func (m *Manager) take(r revocation) (done <-chan struct{}) {
	over := &m.live.over
	switch kind, id := r.name(); kind {
	case bySession:
		over.end(kind, id, r.Until, causeOf(r.Reason))
		return m.fire(m.live.drop(r.ID), over.reason(id).err())
	case byProvider:
		over.end(kind, id, r.Until, causeProvider)
	case byAccount, byUsername:
		over.endBefore(kind, id, r.Before)
	default:
		over.endAll(r.Before)
	}
	m.live.broad.Store(true)
	return m.fire(nil, nil)
}

// entryOf makes the entry that says again what is known about a name, or nothing
// when it is known no more.
func (m *Manager) entryOf(d debt) (r revocation, ok bool) {
	over := &m.live.over
	if d.kind == kindsOfName {
		before := int64(over.all.Load())
		return revocation{Kind: labelRevokedAll, Before: before, Until: m.untilOf(before)}, before > 0
	}
	v := over.value(d.kind, d.id)
	if v == 0 {
		return r, false
	}
	r.Kind = kindLabels[d.kind]
	switch d.kind {
	case bySession:
		r.ID, r.Reason, r.Until = d.id.String(), causeWords[v&15], int64(v&^15)
	case byProvider:
		r.Key, r.Until = d.id.String(), int64(v&^15)
	default:
		r.Key, r.Before, r.Until = d.id.String(), int64(v), m.untilOf(int64(v))
	}
	return r, r.Until > m.now().Unix()
}

// untilOf is when a revocation of what began until then has lost its meaning.
func (m *Manager) untilOf(before int64) int64 {
	return before + int64(rememberBefore/time.Second)
}
