package condition

import (
	"slices"
	"strings"
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
)

// known are the names that do not depend on the line.
var known = map[string]*cel.Type{
	"request.method":    cel.StringType,
	"request.path":      cel.StringType,
	"request.query":     cel.StringType,
	"request.host":      cel.StringType,
	"request.time":      cel.TimestampType,
	"request.address":   addressType,
	"user.name":         cel.StringType,
	"user.org":          cel.StringType,
	"user.idp":          cel.StringType,
	"user.acr":          cel.StringType,
	"user.roles":        cel.ListType(cel.StringType),
	"user.groups":       cel.ListType(cel.StringType),
	"user.amr":          cel.ListType(cel.StringType),
	"user.auth_time":    cel.TimestampType,
	"user.device_known": cel.BoolType,
}

// roots are the words before the dot.
var roots = []string{"request", "user", "path", "claim"}

// presence is the prefix of the names that stand for has(NAME). No expression can contain them.
const presence = "@has."

// isShort reports whether the lists are no longer than the estimate of the cost reckoned with. A text that is longer has no value.
func (in *Input) isShort() bool {
	return areShort(in.User.Roles) && areShort(in.User.Groups) && areShort(in.User.AMR)
}

func areShort(list []string) bool {
	if len(list) > longList {
		return false
	}
	for _, s := range list {
		if len(s) > longText {
			return false
		}
	}
	return true
}

// activation answers CEL's questions for names out of an Input. What has no value is not found, which makes an error of it.
type activation Input

// Parent returns nil: there is no other scope.
func (a *activation) Parent() cel.Activation { return nil }

// ResolveName returns the value of a name.
func (a *activation) ResolveName(name string) (any, bool) {
	if asked, ok := strings.CutPrefix(name, presence); ok {
		_, found := a.value(asked)
		return types.Bool(found), true
	}
	v, found := a.value(name)
	if !found {
		return nil, false
	}
	return v, true
}

func (a *activation) value(name string) (ref.Val, bool) {
	root, field, _ := strings.Cut(name, ".")
	switch root {
	case "request":
		return a.request(field)
	case "user":
		if !a.SignedIn {
			return nil, false
		}
		return a.User.value(field)
	case "claim":
		return text(a.Claims[field], longText)
	case "path":
		if a.Vars == nil {
			return nil, false
		}
		if v, ok := a.Vars(field); ok {
			return text(v, longPath)
		}
	}
	return nil, false
}

func (a *activation) request(field string) (ref.Val, bool) {
	switch field {
	case "method":
		return text(a.Method, longText)
	case "path":
		return text(a.Path, longPath)
	case "query":
		return types.String(a.Query), len(a.Query) <= longQuery
	case "host":
		return text(a.Host, longText)
	case "time":
		return instant(a.Time)
	case "address":
		return address{a.Addr.Unmap().WithZone("")}, a.Addr.IsValid()
	}
	return nil, false
}

func (u *User) value(field string) (ref.Val, bool) {
	switch field {
	case "name":
		return text(u.Name, longText)
	case "org":
		return text(u.Org, longText)
	case "idp":
		return text(u.IDP, longText)
	case "acr":
		return text(u.ACR, longText)
	case "roles":
		return list(u.Roles), true
	case "groups":
		return list(u.Groups), true
	case "amr":
		return list(u.AMR), true
	case "auth_time":
		return instant(u.AuthTime)
	case "device_known":
		return types.Bool(u.Device), true
	}
	return nil, false
}

// text makes a value of a text; an empty one is none, and one that is longer than any that is meant is none either.
func text(s string, longest int) (ref.Val, bool) {
	return types.String(s), s != "" && len(s) <= longest
}

func instant(t time.Time) (ref.Val, bool) { return types.Timestamp{Time: t}, !t.IsZero() }

// texts is a list of strings that looks for one without making values of all.
type texts struct {
	traits.Lister
	list []string
}

func list(s []string) ref.Val {
	return &texts{types.NewStringList(types.DefaultTypeAdapter, s), s}
}

// Contains implements the operator in.
func (t *texts) Contains(elem ref.Val) ref.Val {
	s, ok := elem.(types.String)
	return types.Bool(ok && slices.Contains(t.list, string(s)))
}
