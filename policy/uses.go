package policy

import "strings"

// Uses says what decisions can depend on.
type Uses struct {
	Username, Time, Addr, Host, Query, Bearer, Level, Groups, Org, Source, Device, Claims bool
}

// Uses returns what decisions can depend on, those with shadow lines, break_glass lines and budgets among them.
func (p *Policy) Uses() Uses {
	if p == nil {
		return Uses{}
	}
	return p.uses
}

func (u *Uses) add(r *rule) {
	for _, pattern := range r.patterns {
		u.Username = u.Username || hasSegment(pattern, "{user}")
		u.Claims = u.Claims || strings.Contains(pattern, "{claim.")
	}
	for i := range r.subjects {
		switch r.subjects[i].by {
		case byUser:
			u.Username = true
		case byGroup:
			u.Groups = true
		case byOrg:
			u.Org = true
		case bySource:
			u.Source = true
		}
	}
	u.Bearer = u.Bearer || r.who == whoScope
	u.Device = u.Device || r.device
	u.Addr = u.Addr || r.networks != nil
	u.Time = u.Time || r.hours != nil || r.need.MaxAge > 0
	u.Level = u.Level || !r.need.isZero()
	u.Query = u.Query || r.who == whoScope
	if r.when == nil {
		return
	}
	for _, name := range r.when.Names() {
		switch name {
		case "request.time":
			u.Time = true
		case "request.address":
			u.Addr = true
		case "request.host":
			u.Host = true
		case "request.query":
			u.Query = true
		case "user.name":
			u.Username = true
		case "user.groups":
			u.Groups = true
		case "user.org":
			u.Org = true
		case "user.idp":
			u.Source = true
		case "user.device_known":
			u.Device = true
		case "user.acr", "user.amr", "user.auth_time":
			u.Level = true
		}
		u.Claims = u.Claims || strings.HasPrefix(name, "claim.")
	}
}
