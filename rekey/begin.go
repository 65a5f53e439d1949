package rekey

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/anteroom-proxy/anteroom/audit"
)

// Request is what somebody wants done.
type Request struct {
	Verb   Verb
	Target string
	Asker  string
	Force  bool
	Remove bool
}

// Begin starts an operation, which Follow carries out. The same one again is the one under way; one that was stopped goes on.
// ErrBusy says that another one is under way.
func (o *Operator) Begin(ctx context.Context, r Request) (*Operation, error) {
	for round := 0; ; round++ {
		op, err := o.begin(ctx, r)
		if !errors.Is(err, errLost) || round == 3 { // somebody else has begun or gone on at the same moment: what stands there now decides
			return op, err
		}
	}
}

func (o *Operator) begin(ctx context.Context, r Request) (*Operation, error) {
	present, raw, err := o.load(ctx)
	if err != nil {
		return nil, err
	}
	r = o.instead(present, r)
	jumped := present != nil && present.State == StateStopped && present.Phase == stepReport // to the end, and the key lives: from the beginning
	if present != nil && !jumped && present.State != StateDone && present.Verb == r.Verb && present.Target == r.Target {
		return o.goOn(ctx, present, raw, r)
	}
	if present != nil && present.State == StateRunning && !gives(present.Verb, r.Verb) {
		return nil, fmt.Errorf("%w: %s %s, at step %s", ErrBusy, present.Verb, present.Target, present.Phase)
	}
	op, err := o.draft(r)
	if err == nil {
		err = o.able(ctx, r.Verb, r.Target)
	}
	if err != nil {
		return nil, err
	}
	if _, err := o.swap(ctx, raw, op); err != nil {
		return nil, err
	}
	if present != nil && present.State == StateRunning {
		o.c.Logger.Warn("new data keys were made, and sealing with them what was there is given up for something more urgent", "operation", present.ID, "instead", op.ID)
	}
	o.wake()
	return op, nil
}

// gives says whether an operation under way gives way to another one. New data keys may be left half used at any moment, and a client
// key that no node's config has any more can be named again; a compromised key cannot wait for either.
func gives(present, next Verb) bool {
	switch next {
	case CompromisedData, CompromisedApps, CompromisedMaster, CompromisedSigning, CompromisedRing, CompromisedClient, DestroyData:
		return present == RotateData || present == CompromisedClient && next != CompromisedClient
	}
	return false
}

func (o *Operator) goOn(ctx context.Context, op *Operation, raw []byte, r Request) (*Operation, error) {
	if op.State == StateRunning && (!r.Force || op.Force) {
		return op, nil
	}
	if op.State == StateStopped {
		op.Remove = r.Remove // what was asked for then, by somebody else perhaps, removes nothing now
	}
	op.State, op.Problem, op.Force = StateRunning, "", op.Force || r.Force
	if _, err := o.swap(ctx, raw, op); err != nil {
		return nil, err
	}
	o.wake()
	return op, nil
}

func (o *Operator) wake() {
	select {
	case o.kick <- struct{}{}:
	default:
	}
}

// draft makes the record of a new operation: what there is at this moment is what goes.
func (o *Operator) draft(r Request) (*Operation, error) {
	op := &Operation{
		Version: journalVersion, ID: audit.NewRef(), Verb: r.Verb, Target: r.Target, Asker: r.Asker, Force: r.Force, Remove: r.Remove,
		State: StateRunning, Began: o.c.Now().UTC(), Owner: o.c.Node,
	}
	steps, known := plans[r.Verb]
	if !known {
		return nil, fmt.Errorf("%w: %q", ErrRefused, r.Verb)
	}
	op.Phase = steps[0]
	switch r.Verb {
	case CompromisedData, DestroyData:
		if k, found := keyOf(o.c.Own, r.Target); !found || k.State == Destroyed {
			return nil, fmt.Errorf("%w: no data key %.80q is there any more", ErrTarget, r.Target)
		}
		op.IDs = []string{r.Target}
	case CompromisedApps:
		if k, found := keyOf(o.c.Apps, r.Target); !found || k.State == Destroyed {
			return nil, fmt.Errorf("%w: applications have no data key %.80q any more", ErrTarget, r.Target)
		}
		op.Apps = []string{r.Target}
	case CompromisedMaster, RotateData:
		op.IDs, op.Apps = newer(o.c.Own, nil), newer(o.c.Apps, nil)
	case CompromisedSigning:
		op.Kills = []string{r.Target}
	case RotateRing:
		name, _ := ringTarget(r.Target)
		if !slices.ContainsFunc(o.rings(), func(r Ring) bool { return name == "" || r.Name() == name }) {
			return nil, fmt.Errorf("%w: there is no password ring %.80q here; `anteroom keys status` lists them", ErrTarget, name)
		}
	}
	if r.Verb == CompromisedMaster || r.Verb == RotateMaster {
		if o.c.Master == nil {
			return nil, fmt.Errorf("%w: %s", ErrRefused, o.c.NoMaster)
		}
		if op.Former = o.c.Master.ID(); op.Former == "" {
			return nil, fmt.Errorf("%w: the master key file is missing or cannot be read: put it back, and do not stop this program before, which has the key in memory", ErrRefused)
		}
	}
	if (r.Verb == CompromisedData || r.Verb == CompromisedMaster) && o.c.Sessions != nil {
		op.Kills = o.c.Sessions().SigningKeys()
	}
	return op, op.check()
}

var (
	dataKeyID = regexp.MustCompile(`^[0-9a-f]{16}$`)
	hexID     = regexp.MustCompile(`^[0-9a-f]{16,64}$`)
	pepperID  = regexp.MustCompile(`^[pd][0-9a-z:]+$`)
	signingID = regexp.MustCompile(`^[A-Za-z0-9_-]{8,43}$`)
)

// ringTarget cuts "NAME/p3" at its last slash; "ring/p3" and "p3" mean every ring.
func ringTarget(target string) (ring, id string) {
	if i := strings.LastIndexByte(target, '/'); i >= 0 {
		ring, id = target[:i], target[i+1:]
	} else {
		id = target
	}
	if ring == "ring" {
		ring = ""
	}
	return ring, id
}

// Resolve finds out which key a name means, and so what is to be done when it was compromised. In front of a name may stand
// what it is, where two keys could be meant: data:, apps:, signing:, tls:.
func (o *Operator) Resolve(name string) (Request, error) {
	kind, id := "", name
	for _, k := range []string{"data", "apps", "signing", "tls"} {
		if rest, found := strings.CutPrefix(name, k+":"); found {
			kind, id = k, rest
		}
	}
	if name == "master" || strings.HasPrefix(name, "local:") || strings.HasPrefix(name, "v1:") || strings.HasPrefix(name, "awskms:") {
		return o.resolveMaster(name)
	}
	var found []Request
	is := func(k string) bool { return kind == "" || kind == k }
	if is("data") && dataKeyID.MatchString(id) {
		if k, ok := keyOf(o.c.Own, id); ok {
			if k.State == Destroyed {
				return Request{}, fmt.Errorf("%w: the data key %s was destroyed already", ErrTarget, id)
			}
			found = append(found, Request{Verb: CompromisedData, Target: id})
		}
	}
	if is("apps") && dataKeyID.MatchString(id) {
		if _, ok := keyOf(o.c.Apps, id); ok {
			found = append(found, Request{Verb: CompromisedApps, Target: id})
		}
	}
	if is("tls") {
		if r, ok := o.resolveRing(id); ok {
			found = append(found, r)
		}
	}
	if kind == "" && o.client(id) != nil {
		found = append(found, Request{Verb: CompromisedClient, Target: id})
	}
	if is("signing") && o.c.Sessions != nil && signingID.MatchString(id) {
		for _, kid := range o.c.Sessions().SigningKeys() {
			if strings.HasPrefix(kid, id) {
				found = append(found, Request{Verb: CompromisedSigning, Target: kid})
			}
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return Request{}, fmt.Errorf("%w: nothing here is called %.80q; `anteroom keys status` lists data keys, rings, client keys and master keys, `anteroom keys list` signing keys", ErrTarget, name)
	}
	return Request{}, fmt.Errorf("%w: %.80q may mean %d keys; write data:, apps:, signing: or tls: in front of it, or more of its name", ErrTarget, name, len(found))
}

func (o *Operator) resolveMaster(name string) (Request, error) {
	if o.c.Master == nil {
		return Request{}, fmt.Errorf("%w: %s", ErrRefused, o.c.NoMaster)
	}
	present := o.c.Master.ID()
	if name != "master" && name != present && "local:"+strings.TrimPrefix(name, "v1:") != present {
		return Request{}, fmt.Errorf("%w: the master key is %s", ErrTarget, present)
	}
	return Request{Verb: CompromisedMaster, Target: present}, nil
}

// resolveRing takes a pepper, or a key that opens rings: of TLS, or for recovery.
func (o *Operator) resolveRing(name string) (Request, bool) {
	ring, id := ringTarget(name)
	if !pepperID.MatchString(id) && !hexID.MatchString(id) {
		return Request{}, false
	}
	if pepperID.MatchString(id) && !strings.Contains(name, "/") && len(o.rings()) > 1 {
		return Request{}, false // every ring has a p1
	}
	rings := o.rings()
	ok := slices.ContainsFunc(rings, func(r Ring) bool {
		known, _ := r.Knows(id)
		return known && (ring == "" || r.Name() == ring)
	})
	return Request{Verb: CompromisedRing, Target: name}, ok
}

// Plan is what an operation would do.
type Plan struct {
	Verb    Verb           `json:"verb"`
	Target  string         `json:"target"`
	Steps   []string       `json:"steps"`
	Total   int            `json:"total"`  // values in the store
	Reseal  int            `json:"reseal"` // of them, to be sealed anew
	Purpose map[string]int `json:"purpose,omitempty"`
	Kills   []string       `json:"kills,omitempty"`
	Unknown []string       `json:"unknown,omitempty"` // values that would stop it before the key is destroyed
	Notes   []string       `json:"notes,omitempty"`
}

// Plan says what Begin would do, and changes nothing.
func (o *Operator) Plan(ctx context.Context, r Request) (*Plan, error) {
	present, _, err := o.load(ctx)
	if err != nil {
		return nil, err
	}
	r = o.instead(present, r)
	op, err := o.draft(r)
	if err == nil {
		err = o.able(ctx, r.Verb, r.Target)
	}
	if err != nil {
		return nil, err
	}
	p := &Plan{Verb: op.Verb, Target: op.Target, Kills: op.Kills}
	for _, name := range plans[op.Verb] {
		p.Steps = append(p.Steps, titles[name])
	}
	if first := plans[op.Verb][0]; first == stepCount || first == stepRecount {
		c, err := o.take(ctx, op, func(int) error { return nil }, new(junk))
		if err != nil {
			return nil, err
		}
		p.Total, p.Reseal, p.Purpose, p.Unknown = c.looked, c.left, c.byPurpose, c.foreign
		op.Exposed = c.byPurpose
		o.noteExposed(op)
	}
	switch op.Verb {
	case CompromisedData, CompromisedMaster:
		if o.c.Sessions != nil {
			op.note(noteSessions)
		}
	case CompromisedSigning:
		op.note(noteSigning)
	case CompromisedClient:
		op.note(noteClientNew)
	case CompromisedRing:
		op.note(noteUpgrade)
	case CompromisedApps:
		op.note(noteAppsReseal)
	}
	p.Notes = op.Notes
	return p, nil
}
