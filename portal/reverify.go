package portal

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/anteroom-proxy/anteroom/audit"
	"github.com/anteroom-proxy/anteroom/identity"
	"github.com/anteroom-proxy/anteroom/session"
)

// kindReverify is the kind of audit events about a source that was asked again.
const kindReverify = "re-verification"

// Reasons of re-verifications, besides those of the sources.
const (
	reasonChanged  = "reverify.changed"  // roles or names are others now
	reasonPatience = "reverify.patience" // the source was silent for too long
	reasonAbsent   = "reverify.source"   // it is not in the configuration any more
	reasonKept     = "reverify.kept"
	reasonUnsure   = "reverify.unsure" // refused, after an asking that was cut off
	reasonSubject  = "reverify.subject"
	reasonIssuerIs = "reverify.issuer"
	degradedBy     = "provider-loss" // audit.Event.Degraded
)

const (
	// absentPatience is how long sessions outlive a way to sign in that is not
	// configured any more. A slip of the pen is found within it and signs nobody out;
	// one that was removed on purpose vouches for nobody beyond it.
	absentPatience = time.Hour

	// unsurePatience is how long a session goes on at most after its provider refused
	// a token that it may have used up itself: nobody can tell that from an account
	// that was closed.
	unsurePatience = 15 * time.Minute

	// degradedEvery bounds the records of one session while its source is silent.
	degradedEvery = time.Minute
	degradedMost  = 16 << 10 // sessions remembered for that
)

// keptOf is what the session manager keeps of a sign-in, sealed, for this package:
// who vouched, a NUL, which no issuer holds, and the source's own bytes. A source
// whose configuration leads to another issuer now must not speak for the accounts of
// the first. It is nil for nothing.
func keptOf(id identity.Identity) []byte {
	if id.Keep == nil {
		return nil
	}
	return append(append([]byte(id.Issuer), 0), id.Keep...)
}

// splitKept is the inverse of keptOf.
func splitKept(b []byte) (issuer string, keep []byte, ok bool) {
	head, keep, ok := bytes.Cut(b, []byte{0})
	return string(head), keep, ok
}

// Reverify asks the source of a session whether it still vouches for the person,
// and as what. It is for session.Config.Refresh. Roles, groups, claims and names
// follow what it says; how somebody proved who they are, and with which browser, stays
// as it was at the sign-in, so that no session's level rises by itself. A source that does not answer ends nobody's
// session before its patience is over; one that is not configured any more counts
// as silent.
func (p *Portal) Reverify(ctx context.Context, s *session.Session, k session.Kept) (session.Verdict, error) {
	src := p.source(s.Source)
	if src == nil {
		err := &identity.Failure{Kind: identity.ErrUnavailable, Reason: reasonAbsent}
		return p.unanswered(ctx, s, k, absentPatience, err)
	}
	asked, ok := src.(identity.Refresher)
	if !ok {
		return session.Verdict{Grant: s.Grant, Keep: k.Bytes}, nil // the operator has turned asking off
	}
	id, err := p.ask(ctx, src, asked, s, k)
	switch {
	case err == nil:
	case errors.Is(err, identity.ErrUnavailable), ctx.Err() != nil && identity.Reason(err) == "":
		return p.unanswered(ctx, s, k, asked.Patience(), err)
	case k.Unsure && errors.Is(err, identity.ErrDeclined):
		// The provider refuses a token that an asking before may have used up: one that
		// was too slow for us, or a node that went down in the middle. That says nothing
		// of the person, and a slow hour at the provider must not sign everybody out.
		return p.unanswered(ctx, s, k, min(asked.Patience(), unsurePatience), &identity.Failure{Kind: identity.ErrUnavailable, Reason: reasonUnsure, Err: err})
	default:
		return p.gone(ctx, s, identity.Reason(err), err), nil
	}
	v := session.Verdict{Grant: s.Grant, Keep: k.Bytes}
	if next := keptOf(id); next != nil {
		v.Keep = next
	}
	g := &v.Grant
	g.Username, g.Name, g.Email, g.Org = id.Username, id.Name, id.Email, id.Org
	g.Roles, g.Groups, g.Claims = slices.Clone(id.Roles), slices.Clone(id.Groups), maps.Clone(id.Claims)
	if g.Username != s.Username || g.Name != s.Name || g.Email != s.Email || !sameRights(*g, s.Grant) {
		// What the source gave back works once: losing it because the record failed
		// would sign the person out. record has logged the failure.
		_ = p.recordReverify(ctx, s, *g, audit.Event{Decision: "allowed", Reason: reasonChanged})
	}
	return v, nil
}

// ask puts the question, and checks that the answer is about the same account and
// keeps to what every answer must. A source never speaks for another one.
func (p *Portal) ask(ctx context.Context, src identity.Source, asked identity.Refresher, s *session.Session, k session.Kept) (identity.Identity, error) {
	refused := func(reason string, err error) (identity.Identity, error) {
		return identity.Identity{}, &identity.Failure{Kind: identity.ErrRefused, Reason: reason, Err: err}
	}
	issuer, keep, ok := splitKept(k.Bytes)
	if !ok {
		return refused(reasonKept, nil)
	}
	id, err := asked.Refresh(ctx, keep)
	if err != nil {
		return identity.Identity{}, err
	}
	if err := id.Check(); err != nil {
		return identity.Identity{}, err
	}
	switch {
	case id.Source != s.Source:
		return refused(reasonSourceName, nil)
	case id.Issuer != issuer:
		return refused(reasonIssuerIs, nil)
	case id.Subject != s.Subject:
		return refused(reasonSubject, nil)
	case !p.ownsUsername(src, id.Username):
		return refused(reasonPrefix, nil)
	}
	return id, nil
}

// unanswered is for a source that says nothing: the session goes on as it was
// while its patience lasts, and that is on the record.
func (p *Portal) unanswered(ctx context.Context, s *session.Session, k session.Kept, patience time.Duration, cause error) (session.Verdict, error) {
	if p.now().Sub(k.Verified) >= patience {
		return p.gone(ctx, s, reasonPatience, cause), nil
	}
	if p.degraded.due(s.ID, p.now()) {
		e := audit.Event{Decision: "degraded", Degraded: degradedBy, Reason: identity.Reason(cause)}
		if err := p.recordReverify(ctx, s, s.Grant, e); err != nil {
			return session.Verdict{}, err
		}
	}
	return session.Verdict{}, cause
}

// gone ends a session for which nobody vouches. It ends whether or not that can
// be recorded.
func (p *Portal) gone(ctx context.Context, s *session.Session, reason string, cause error) session.Verdict {
	_ = p.recordReverify(ctx, s, s.Grant, audit.Event{Decision: "ended", Reason: reason})
	p.log.Warn("a session's provider does not vouch for it any more", "session", audit.SessionLabel(s.ID), "source", s.Source, "reason", reason, "error", cause)
	return session.Verdict{Gone: true}
}

func (p *Portal) recordReverify(ctx context.Context, s *session.Session, g session.Grant, e audit.Event) error {
	e.Kind, e.Ref, e.Site = kindReverify, audit.NewRef(), s.Audience
	e.Source, e.Subject, e.Name, e.Roles = g.Source, g.Subject, g.Username, g.Roles
	e.Session = audit.SessionLabel(s.ID)
	if err := p.audit.Record(context.WithoutCancel(ctx), e); err != nil {
		p.log.Error("audit event not taken", "ref", e.Ref, "kind", e.Kind, "error", err)
		return err
	}
	return nil
}

// seldom says, for each session, whether something is due again. It forgets whom
// it has not heard of, and when it is full says yes: a record too many is better
// than none.
type seldom struct {
	mu   sync.Mutex // guards last
	last map[string]time.Time
}

func (m *seldom) due(sid string, now time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if at, ok := m.last[sid]; ok && now.Sub(at) < degradedEvery && !now.Before(at) {
		return false
	}
	if m.last == nil {
		m.last = make(map[string]time.Time)
	}
	if len(m.last) >= degradedMost {
		for sid, at := range m.last {
			if now.Sub(at) >= degradedEvery {
				delete(m.last, sid)
			}
		}
	}
	if len(m.last) < degradedMost {
		m.last[sid] = now
	}
	return true
}
