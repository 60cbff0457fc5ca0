/** The environment variable that names the folder of `src` whose mutants run. */
export const GROUP = 'HEADGATE_MUTATION_GROUP';
