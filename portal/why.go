package portal

import (
	"cmp"
	"net/http"

	"github.com/anteroom-proxy/anteroom/policy"
)

// whyView is what the page of a refusal says besides its title: what is missing, and
// whom to ask. It names the kind of what is missing and never more. Roles, networks,
// hours and patterns would tell whoever holds somebody else's session which one to
// try next.
type whyView struct {
	Missing   []string // several things at once, a sentence each
	Contact   string   // empty: nobody was named
	Ref       string
	Emergency string // address of the form for emergency access, empty for none
}

// The pages of one missing thing. Their problem type is the gate's: programs learn
// no more than that.
var (
	pageNetwork = &errorPage{http.StatusForbidden, "forbidden", "This page does not open from here", []string{
		"It opens only from inside your organisation's network. You are connected from elsewhere, for example from home, over a mobile network or as a guest."}}
	pageHours = &errorPage{http.StatusForbidden, "forbidden", "This page does not open now", []string{
		"It does not open at this time of day, or not on this day. Please try again at your usual hours."}}
	pageLevel = &errorPage{http.StatusForbidden, "forbidden", "This page needs a stronger sign-in", []string{
		"It opens only after a stronger or a more recent sign-in than yours."}}
	pageDevice = &errorPage{http.StatusForbidden, "forbidden", "This browser is not known yet", []string{
		"The page opens only in a browser that you have signed in with before. If this one is new to you, try again some time later, or use the one that you usually work with."}}
	pageOther = &errorPage{http.StatusForbidden, "forbidden", "This page does not open now", []string{
		"You are signed in, but something else that this page asks for is not given at the moment."}}
	pageSeveral = &errorPage{http.StatusForbidden, "forbidden", "This page does not open now", []string{
		"You are signed in, but that is not enough for this page:"}}
	pageStranger = &errorPage{http.StatusForbidden, "forbidden", "This page is not open to you", []string{
		"It is not open to everybody who asks for it."}}
	pageBudget = &errorPage{http.StatusForbidden, "budget", "You have opened unusually many records", []string{
		"To protect the people whose records these are, one person can open only so many different ones within a certain time. This has been noted.",
		"What you opened lately stays open to you. More will open again when some time has passed."}}
)

// missing is each kind of thing, in the order of the page, with its own page and its
// sentence among several.
var missing = []struct {
	bit   policy.Missing
	alone *errorPage
	among string
}{
	{policy.MissingRole, pageForbidden, "Your role does not open it."},
	{policy.MissingNetwork, pageNetwork, "It opens only from inside your organisation's network."},
	{policy.MissingHours, pageHours, "It does not open at this time of day, or not on this day."},
	{policy.MissingLevel, pageLevel, "It needs a stronger or a more recent sign-in."},
	{policy.MissingDevice, pageDevice, "It opens only in a browser that you have signed in with before."},
	{policy.MissingOther, pageOther, "Something else that it asks for is not given at the moment."},
}

// forbidden is the page of what is missing. A bit of a later policy counts as something
// else; none at all as the role, which is what nearly every rule asks for.
func forbidden(m policy.Missing) (e *errorPage, among []string) {
	e = pageForbidden
	var known policy.Missing
	for _, k := range missing {
		known |= k.bit
	}
	if m&^known != 0 {
		m |= policy.MissingOther
	}
	for _, k := range missing {
		if m&k.bit != 0 {
			e, among = k.alone, append(among, k.among)
		}
	}
	if len(among) > 1 {
		return pageSeveral, among
	}
	return e, nil
}

// contactOf says whom to ask at the site of a request.
func (p *Portal) contactOf(r *http.Request) string {
	if p.siteAsks == nil {
		return p.contact
	}
	return cmp.Or(p.siteAsks(r), p.contact)
}

// newWhy says what the refused person can do about it. Nobody who is not signed in
// learns what was missing.
func (p *Portal) newWhy(ref Refusal, among []string) *whyView {
	return &whyView{Missing: among, Contact: cmp.Or(ref.Contact, p.contact), Ref: ref.Ref}
}
