/** Activities that do nothing. The throughput benchmark compares nodrop with a workflow that runs them. */
export const bareActivities = {
  async create(id: string): Promise<string> {
    return id;
  },
  async updateOrder(id: string): Promise<string> {
    return id;
  },
};

export type BareActivities = typeof bareActivities;
