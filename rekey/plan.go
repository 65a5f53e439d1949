package rekey

import (
	"context"
	"fmt"
)

// The steps. Their names stand in journals.
const (
	stepCount     = "count"           // what the store holds, by key and purpose
	stepNext      = "next-key"        // a new data key seals from now on, on this node at once
	stepRevoke    = "revoke"          // signing keys are killed and replaced, sessions are over
	stepCondemn   = "condemn"         // no node seals with the key any more, nothing opens with it
	stepStore     = "reseal-store"    // what the store itself sealed
	stepValues    = "reseal-values"   // what our packages sealed in it
	stepWait      = "wait"            // until no node can seal with the key, however late it heard
	stepStore2    = "reseal-store-2"  // what was sealed meanwhile
	stepValues2   = "reseal-values-2" //
	stepVerify    = "verify"          // a second full reading: nothing is left under the key
	stepDestroy   = "destroy"         // the wrapped key is overwritten
	stepApps      = "apps"            // the same for applications, up to where they have to act
	stepMaster    = "next-master"     // a new master key
	stepMigrate   = "migrate"         // all data keys are wrapped under it
	stepFinish    = "former-master"   // the former one goes
	stepPepper    = "pepper"          // rings of passwords get a new pepper
	stepKillNamed = "kill"            // one signing key
	stepRecount   = "recount"         // what is left under a key after an operation has set something aside
	stepClient    = "client-key"      // keys with which we prove ourselves to an identity provider
	stepReport    = "report"
)

// plans are the steps of each verb, in their order. Each may be repeated from its beginning.
var plans = map[Verb][]string{
	CompromisedData:    {stepCount, stepNext, stepRevoke, stepCondemn, stepStore, stepValues, stepWait, stepStore2, stepValues2, stepVerify, stepDestroy, stepReport},
	CompromisedApps:    {stepApps, stepReport},
	CompromisedSigning: {stepKillNamed, stepReport},
	CompromisedRing:    {stepPepper, stepReport},
	CompromisedClient:  {stepClient, stepReport},
	DestroyData:        {stepRecount, stepDestroy, stepReport},
	CompromisedMaster: {stepCount, stepMaster, stepMigrate, stepNext, stepRevoke, stepCondemn, stepApps, stepStore, stepValues, stepWait, stepStore2, stepValues2,
		stepVerify, stepDestroy, stepFinish, stepReport},
	RotateData:   {stepCount, stepNext, stepStore, stepValues, stepWait, stepStore2, stepValues2, stepVerify, stepReport},
	RotateMaster: {stepCount, stepMaster, stepMigrate, stepStore, stepValues, stepVerify, stepFinish, stepReport},
	RotateRing:   {stepPepper, stepReport},
	Migrate:      {stepCount, stepMigrate, stepStore, stepValues, stepVerify, stepFinish, stepReport},
}

// titles say the steps in a report.
var titles = map[string]string{
	stepCount:     "Counted what the keys had sealed",
	stepNext:      "A new data key seals from here on",
	stepRevoke:    "Signing keys killed and replaced, sessions ended",
	stepCondemn:   "The compromised key is refused",
	stepStore:     "Sealed anew what the store had sealed",
	stepValues:    "Sealed anew what stands in the store",
	stepWait:      "Waited until every node had heard of it",
	stepStore2:    "Looked again at what the store had sealed",
	stepValues2:   "Looked again at what stands in the store",
	stepVerify:    "Read the whole store once more",
	stepDestroy:   "Destroyed the old key",
	stepApps:      "Data keys of applications",
	stepMaster:    "Made a new master key",
	stepMigrate:   "Wrapped all data keys under the master key",
	stepFinish:    "Put the former master key away",
	stepPepper:    "New pepper for the rings",
	stepKillNamed: "Killed the signing key",
	stepRecount:   "Read the whole store once more",
	stepClient:    "New keys for the identity provider",
	stepReport:    "Made this report",
}

// do carries out one step.
func (t *task) do(ctx context.Context, name string) error {
	switch name {
	case stepCount:
		return t.count(ctx)
	case stepNext:
		return t.nextKey(ctx)
	case stepRevoke:
		return t.revoke(ctx)
	case stepCondemn:
		return t.condemn(ctx)
	case stepStore, stepStore2:
		return t.resealStore(ctx)
	case stepValues, stepValues2:
		return t.resealValues(ctx)
	case stepWait:
		return t.wait(ctx)
	case stepVerify:
		return t.verify(ctx)
	case stepDestroy:
		return t.destroy(ctx)
	case stepApps:
		return t.apps(ctx)
	case stepMaster:
		return t.nextMaster(ctx)
	case stepMigrate:
		return t.migrate(ctx)
	case stepFinish:
		return t.finishMaster(ctx)
	case stepPepper:
		return t.pepper(ctx)
	case stepKillNamed:
		return t.killNamed(ctx)
	case stepRecount:
		return t.recount(ctx)
	case stepClient:
		return t.clientKeys(ctx)
	case stepReport:
		return t.report(ctx)
	}
	return fmt.Errorf("no program of this version knows the step %q", name) // never passed over: it may be the one that destroys
}
