import { usernames } from './usernames.ts'

export default usernames('loose')
