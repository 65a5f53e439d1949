package rekey

// What an operator has to do after an operation; each stands in its report.
const (
	noteSessions = "Everybody was signed out and signs in again. Whoever had a page open loses what was not sent."
	noteSigning  = "Sessions whose token the key had signed are over; those people sign in again."
	noteAgain    = "While the operation went on, signing keys came into the store that it had not made, and that the compromised key may have sealed. They were killed and everybody was signed out once more. If no other node rotated its keys at that time, somebody has the key and can write to the store: change its credentials."
	noteClient   = "Private keys with which Anteroom proves itself to identity providers (private_key_jwt, DPoP) had been sealed by the compromised key. They were sealed anew, but whoever had the old key may have read them: " +
		"run `anteroom keys compromised client/NAME` for each provider that `anteroom keys status` lists under its client keys."
	noteClientNew = "The new public key is published at /.anteroom/jwks/NAME.json (`anteroom keys status` shows it). A provider that fetches it there takes it over when it reads again; where you registered the public key by hand, register the new one there and remove the old one: until then nobody signs in through this provider. Tokens that were bound to the old key are refused: people who signed in through it sign in again when their session is renewed."
	noteAside     = "Values in the store name the compromised key, and no key opens them: somebody who can write to the store has put them there, or they are damaged. The key was therefore not destroyed: nothing is sealed by it any more, but whoever has it and can write to the store can go on putting values there. " +
		"Change the store's credentials, look at the names in this report, remove what lies there, and run `anteroom keys compromised ID` once more, which destroys the key when nothing is left under it; with --force it destroys it in any case, and nothing that can be opened is lost."
	noteTokens       = "Refresh tokens of identity providers had been sealed by the compromised key. Revoke them there (most providers: end the sessions of this client), for whoever had the old key may have read them."
	noteCookies      = "Sign-ins and emergency accesses that were under way are over: their cookies were sealed by the old key and are refused."
	noteBackups      = "Copies of the store that were made before still open with a copy of the old key. Destroy them, or keep them as you keep the key."
	noteAppsReseal   = "Applications that use /envelope-service have to seal their values anew: `keys` answers reseal_due, and `reseal` does it. Until then the old data key opens them."
	noteAppsDestroy  = "When the applications' census names the condemned data key no more, destroy it: anteroom keys destroy ID."
	noteUpgrade      = "Applications that use /hmac-service have to upgrade their records: `status` answers upgrade_due, and `upgrade` does it in batches, without passwords. Until then a record still verifies, and whoever has the old pepper and a copy of the table can guess passwords off-line."
	noteMasterCopies = "Copies of the former master key (backups, other hosts) still open copies of the store that were made before. Destroy them together. Back up the new one."
)
